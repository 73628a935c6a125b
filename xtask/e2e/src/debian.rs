//! Programs from the Debian archive that this machine's apt already uses, into a private folder.
//!
//! apt works on private lists and a private status file, and checks the archive's signatures as always. The packages
//! are unpacked, never installed: libc and the loader come along, so an old machine runs a new build.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use xtask_programs::process;

const SUITE: &str = "sid";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A package, and what is taken out of it. The archive keeps one version of each, so the version is not pinned.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    /// Names below `usr/bin`.
    pub(crate) programs: &'static [&'static str],
    /// Put before the arguments of every start. A later argument wins over them.
    pub(crate) arguments: &'static str,
}

/// A Debian archive that apt can read.
pub(crate) struct Archive {
    address: String,
}

impl Archive {
    /// The archive that this machine's own apt is set up for.
    pub(crate) fn find() -> Result<Self> {
        ensure!(Path::new(KEYRING).is_file(), "no {KEYRING} on this machine");
        let targets = process::output(Command::new("apt-get").args([
            "indextargets",
            "--no-release-info",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
        ]))?;
        let address = targets.lines().find(|line| line.trim_end_matches('/').ends_with("/debian"));
        let address = address.context("apt knows no Debian archive")?.to_owned();
        Ok(Self { address })
    }

    /// Puts the programs in `bin` and what they need in `lib` under `prefix`; an earlier folder of that name is
    /// replaced at the end.
    pub(crate) fn install(&self, package: &Package, prefix: &Path) -> Result<()> {
        let name = package.name;
        let parent = prefix.parent().context("the target folder has no parent")?;
        let work = tempfile::Builder::new().prefix(&format!(".{name}-")).tempdir_in(parent)?;
        let apt = Apt::new(work.path(), &self.address)?;
        eprintln!("{name}: reading the package list");
        process::output(apt.get().args(["-qq", "update"]))?;
        let packages = apt.closure(name)?;
        eprintln!("{name}: fetching it and {} libraries", packages.len() - 1);
        let root = apt.unpack(&packages)?;
        eprintln!("{name}: putting it together");
        let built = assemble(package, &root, &work.path().join("built"))?;
        if prefix.exists() {
            fs::remove_dir_all(prefix)?;
        }
        fs::rename(built, prefix)?;
        Ok(())
    }
}

/// apt with every state of its own below one folder.
struct Apt<'a> {
    work: &'a Path,
}

impl<'a> Apt<'a> {
    fn new(work: &'a Path, address: &str) -> Result<Self> {
        for folder in ["lists/partial", "cache/archives/partial", "packages", "root"] {
            fs::create_dir_all(work.join(folder))?;
        }
        fs::write(work.join("status"), "")?;
        fs::write(work.join("sources.list"), format!("deb [signed-by={KEYRING}] {address} {SUITE} main\n"))?;
        Ok(Self { work })
    }

    fn get(&self) -> Command {
        self.command("apt-get")
    }

    fn command(&self, program: &str) -> Command {
        let below = |name: &str| self.work.join(name).display().to_string();
        let mut command = Command::new(program);
        for setting in [
            format!("Dir::Etc::sourcelist={}", below("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={}", self.work.display()),
            format!("Dir::State::lists={}", below("lists")),
            format!("Dir::State::status={}", below("status")),
            format!("Dir::Cache={}", below("cache")),
            "Acquire::Languages=none".to_owned(),
            "Acquire::PDiffs=false".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".to_owned(),
            // As root, apt would hand downloads to a user that cannot write here.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &setting]);
        }
        command
    }

    /// The package and every library package that it needs.
    fn closure(&self, package: &str) -> Result<Vec<String>> {
        let listing = process::output(self.command("apt-cache").args([
            "depends",
            "--recurse",
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
            package,
        ]))?;
        let packages = libraries_of(package, &listing);
        ensure!(packages.len() > 1, "the archive has no usable {package}");
        Ok(packages)
    }

    /// Downloads packages and unpacks them, one over the other, into one folder.
    fn unpack(&self, packages: &[String]) -> Result<PathBuf> {
        let (folder, root) = (self.work.join("packages"), self.work.join("root"));
        process::output(self.get().args(["-qq", "download"]).args(packages).current_dir(&folder))?;
        for package in fs::read_dir(folder)? {
            process::output(Command::new("dpkg-deb").arg("-x").arg(package?.path()).arg(&root))?;
        }
        Ok(root)
    }
}

/// Follows `Depends` and `PreDepends` from `package` through libraries, known by how their names begin.
fn libraries_of(package: &str, listing: &str) -> Vec<String> {
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = "";
    for line in listing.lines() {
        if !line.starts_with([' ', '|']) {
            current = without_architecture(line);
        } else if let Some((kind, name)) = line.split_once("Depends: ") {
            let name = without_architecture(name);
            if kind.trim_start_matches([' ', '|']).trim_end_matches("Pre").is_empty()
                && (name.starts_with("lib") || name.starts_with("zlib"))
            {
                needs.entry(current).or_default().push(name);
            }
        }
    }
    let mut found = BTreeSet::from([package]);
    let mut queue = VecDeque::from([package]);
    while let Some(next) = queue.pop_front() {
        for need in needs.get(next).into_iter().flatten() {
            if found.insert(need) {
                queue.push_back(need);
            }
        }
    }
    found.into_iter().map(str::to_owned).collect()
}

fn without_architecture(name: &str) -> &str {
    name.trim().split(':').next().unwrap_or_default()
}

/// Copies the programs, the loader and exactly the libraries that it loads, and writes a starter script for each.
fn assemble(package: &Package, root: &Path, built: &Path) -> Result<PathBuf> {
    let (bin, lib) = (built.join("bin"), built.join("lib"));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&lib)?;
    let mut files = Vec::new();
    shared_objects(root, &mut files)?;
    let loader = files.iter().find(|file| file_name(file).starts_with("ld-linux"));
    let loader = loader.context("the packages hold no dynamic loader")?;
    let folders: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
    let folders = std::env::join_paths(folders)?;
    fs::copy(loader, lib.join(file_name(loader)))?;
    for name in package.programs {
        let program = root.join("usr/bin").join(name);
        let mut list = Command::new(loader);
        list.arg("--library-path").arg(&folders).arg("--list").arg(&program);
        for library in loaded(&process::output(&mut list)?) {
            fs::copy(library, lib.join(file_name(library)))?;
        }
        fs::copy(&program, lib.join(name))?;
        let script = bin.join(name);
        fs::write(&script, starter(&file_name(loader), name, package.arguments))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    Ok(built.to_path_buf())
}

/// Every file below `folder` that is named like a shared object.
fn shared_objects(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            shared_objects(&entry.path(), files)?;
        } else if file_name(&entry.path()).contains(".so.") {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The paths in the loader's `name => path (address)` lines.
fn loaded(listing: &str) -> impl Iterator<Item = &Path> {
    let words = listing.lines().filter_map(|line| line.split_whitespace().nth(2));
    words.filter(|word| word.starts_with('/')).map(Path::new)
}

fn starter(loader: &str, program: &str, arguments: &str) -> String {
    format!(
        "#!/bin/sh\n\
         lib=$(dirname \"$(readlink -f \"$0\")\")/../lib\n\
         exec \"$lib/{loader}\" --argv0 \"$0\" --library-path \"$lib\" \"$lib/{program}\" {arguments} \"$@\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
bitcoin-knots
  Depends: adduser
  Depends: libc6
 |Depends: libevent-2.1-7t64
  PreDepends: libboost
adduser
  Depends: libpasswd
libc6:amd64
  Depends: libgcc-s1
  Depends: zlib1g
libgcc-s1
  Depends: libc6
  Suggests: libunwanted
";

    #[test]
    fn only_libraries_are_followed_and_each_once() {
        let expected = ["bitcoin-knots", "libboost", "libc6", "libevent-2.1-7t64", "libgcc-s1", "zlib1g"];
        assert_eq!(libraries_of("bitcoin-knots", LISTING), expected);
    }

    #[test]
    fn the_loader_s_list_gives_paths_and_skips_the_kernel_s_own_object() {
        let listing =
            "\tlinux-vdso.so.1 (0x00)\n\tlibc.so.6 => /x/libc.so.6 (0x01)\n\t/x/ld-linux.so.2 (0x02)\n";
        assert_eq!(loaded(listing).collect::<Vec<_>>(), [Path::new("/x/libc.so.6")]);
    }
}
