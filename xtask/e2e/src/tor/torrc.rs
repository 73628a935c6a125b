//! Settings of the nodes, and of an arti that uses them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use super::identity::Identity;
use super::{DIRECTORY_PORT, OR_PORT, SOCKS_PORT};

/// Seconds between two votes. Time periods last 24 of them, and arti counts time periods in minutes.
pub(super) const INTERVAL: u64 = 20;
/// Seconds for a vote, and again for its distribution.
const DELAY: u64 = 4;

/// In a node's folder.
pub(super) const LOG: &str = "notice.log";
/// Whom an exit asks for names.
pub(super) const NAMES: &str = "resolv.conf";
/// A client's keys for restricted onion services.
pub(super) const KEYS: &str = "onion-auth";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Authority,
    Exit,
    Client,
}

/// How every node learns of an authority.
pub(super) fn authority_line(ip: Ipv4Addr, Identity { name, v3ident, rsa, .. }: &Identity) -> String {
    format!("DirAuthority {name} orport={OR_PORT} v3ident={v3ident} {ip}:{DIRECTORY_PORT} {rsa}")
}

pub(super) fn torrc(role: Role, name: &str, dir: &Path, ip: Ipv4Addr, authorities: &[String]) -> String {
    let mut text = format!("TestingTorNetwork 1\n{}\n", authorities.join("\n"));
    text.push_str(&common(name, dir));
    if role != Role::Client {
        text.push_str(&relay(ip));
    }
    text.push_str(&match role {
        Role::Authority => authority(ip),
        Role::Exit => exit(dir),
        Role::Client => client(dir, ip),
    });
    text
}

fn common(name: &str, dir: &Path) -> String {
    let (dir, owner) = (dir.display(), std::process::id());
    format!(
        "Nickname {name}
DataDirectory {dir}
Log notice file {dir}/{LOG}
SafeLogging 0
# A node ends by itself when we were killed.
__OwningControllerProcess {owner}
ShutdownWaitLength 0
ControlPort 0
AvoidDiskWrites 1
PathsNeededToBuildCircuits 0.67
# Half the latency of the default.
Schedulers Vanilla
"
    )
}

fn relay(ip: Ipv4Addr) -> String {
    format!(
        "SocksPort 0
Address {ip}
ORPort {ip}:{OR_PORT} IPv4Only
OutboundBindAddress {ip}
AssumeReachable 1
ContactInfo nobody
NumCPUs 1
MaxMemInQueues 256 MB
HiddenServiceStatistics 0
ExtraInfoStatistics 0
BandwidthRate 100 MB
BandwidthBurst 100 MB
"
    )
}

fn exit(dir: &Path) -> String {
    format!(
        "ExitRelay 1
# Only loopback answers to what these bind to.
ExitPolicyRejectPrivate 0
ExitPolicy accept *4:*,reject *:*
ServerDNSResolvConfFile {}
# In its first minute it does not know the others yet.
RefuseUnknownExits 0
",
        dir.join(NAMES).display()
    )
}

fn client(dir: &Path, ip: Ipv4Addr) -> String {
    format!(
        "ClientOnly 1
# Says why an onion service is not reached.
SocksPort {ip}:{SOCKS_PORT} ExtendedErrors
ClientOnionAuthDir {}
",
        dir.join(KEYS).display()
    )
}

fn authority(ip: Ipv4Addr) -> String {
    format!(
        "ExitRelay 0
DirPort {ip}:{DIRECTORY_PORT}
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
TestingV3AuthInitialVotingInterval {INTERVAL} seconds
TestingV3AuthInitialVoteDelay {DELAY} seconds
TestingV3AuthInitialDistDelay {DELAY} seconds
V3AuthVotingInterval {INTERVAL} seconds
V3AuthVoteDelay {DELAY} seconds
V3AuthDistDelay {DELAY} seconds
V3AuthNIntervalsValid 3
TestingDirAuthVoteGuard *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteExit *
TestingMinExitFlagThreshold 0
# Stable from the first vote on: arti builds onion circuits of stable relays only.
AuthDirVoteStableGuaranteeMinUptime 0 seconds
AuthDirVoteStableGuaranteeMTBF 0 seconds
AuthDirFastGuarantee 1 bytes
"
    )
}

/// arti's settings for this network, as TOML.
pub(super) fn arti_settings(authorities: &[(Ipv4Addr, &Identity)]) -> String {
    let quoted = |item: &dyn Fn(&(Ipv4Addr, &Identity)) -> String| {
        authorities.iter().map(item).collect::<Vec<_>>().join(", ")
    };
    let idents = quoted(&|(_, identity)| format!("{:?}", identity.v3ident));
    let directories = quoted(&|(ip, _)| format!("[\"{ip}:{DIRECTORY_PORT}\"]"));
    let mut text = String::from("# A private Tor network for tests. Public authorities are never asked.\n");
    for (ip, Identity { rsa, ed25519, .. }) in authorities {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[[tor_network.fallback_caches]]\nrsa_identity = \"{rsa}\"\ned_identity = \"{ed25519}\"\n\
             orports = [\"{ip}:{OR_PORT}\"]\n"
        );
    }
    let _ = write!(
        text,
        "\n[tor_network.authorities]\nv3idents = [{idents}]\nuploads = [{directories}]\n\
         downloads = [{directories}]\nvotes = [{directories}]\n"
    );
    let minutes = 24 * INTERVAL / 60;
    // Minutes of a time period.
    let _ = write!(text, "\n[override_net_params]\nhsdir_interval = {minutes}\n{SMALL_NETWORK}");
    text
}

/// Continues the table `override_net_params`.
const SMALL_NETWORK: &str = "\
cbtdisabled = 1
# There are fewer guards than arti wants to know.
guard-min-filtered-sample-size = 4

# All relays are in one subnet.
[path_rules]
ipv4_subnet_family_prefix = 33
ipv6_subnet_family_prefix = 129

[preemptive_circuits]
initial_predicted_ports = []

# Whatever an exit can reach is on loopback.
[address_filter]
allow_local_addrs = true
";
