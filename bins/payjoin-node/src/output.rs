//! What is told to whoever may not read it: a queue, and a thread that alone waits for the reader. Nothing else ever does.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that wait for the reader at most. Further ones are dropped and counted.
const WAITING: usize = 1024;

/// A way out. Clones lead to the same place.
#[derive(Clone, Debug)]
pub struct Output {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

enum Line {
    Text(Vec<u8>),
    /// Answered once all before it was written.
    Flush(SyncSender<()>),
}

impl Output {
    /// Writes lines to `to`. When it can again after some were dropped, `say` is asked what to write of so many.
    pub fn to(to: impl Write + Send + 'static, say: fn(u64) -> Option<String>) -> Self {
        let (lines, queue) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        std::thread::spawn(move || write(&queue, to, &counted, say));
        Self { lines, dropped }
    }

    /// Hands over a line, with its end. Returns at once.
    pub fn tell(&self, line: impl Into<Vec<u8>>) {
        if self.lines.try_send(Line::Text(line.into())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything was written, but no longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        if self.lines.try_send(Line::Flush(done)).is_ok() {
            // Nobody reads.
            let _ = written.recv_timeout(patience);
        }
    }
}

fn write(queue: &Receiver<Line>, mut to: impl Write, dropped: &AtomicU64, say: fn(u64) -> Option<String>) {
    for line in queue {
        match line {
            Line::Flush(done) => drop(done.try_send(())),
            Line::Text(text) if to.write_all(&text).and_then(|()| to.flush()).is_err() => {
                // On a full disk, or when whoever read it is gone.
                dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Line::Text(_) => {}
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0
            && let Some(text) = say(lost)
            && to.write_all(text.as_bytes()).is_err()
        {
            dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Instant;

    use super::*;

    /// Takes bytes when it is told to.
    struct Pipe {
        open: Receiver<()>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.open.recv();
            self.taken.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn say(lost: u64) -> Option<String> {
        Some(format!("{lost} lost\n"))
    }

    #[test]
    fn who_tells_never_waits_for_a_reader_who_hears_later_how_many_lines_he_missed() {
        let ((opened, open), (taken, read)) = (channel(), channel());
        let output = Output::to(Pipe { open, taken }, say);
        let begun = Instant::now();
        (0..WAITING + 10).for_each(|n| output.tell(format!("{n}\n")));
        output.flush(Duration::from_millis(10));
        assert!(begun.elapsed() < Duration::from_secs(5), "nobody read");
        drop(opened);
        let lines: Vec<String> =
            (0..WAITING).map(|_| String::from_utf8(read.recv().unwrap()).unwrap()).collect();
        assert_eq!((lines[0].as_str(), lines[1].contains("lost")), ("0\n", true));
        let lost: u64 = lines[1].split(' ').next().unwrap().parse().unwrap();
        assert!((8..=11).contains(&lost), "{lost}");
    }

    struct Full(Arc<AtomicU64>, Sender<Vec<u8>>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.fetch_sub(1, Ordering::Relaxed) > 1 {
                return Err(std::io::Error::other("no space left"));
            }
            self.0.store(1, Ordering::Relaxed);
            self.1.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_counted_and_told_once_there_is_space() {
        let (taken, read) = channel();
        let output = Output::to(Full(Arc::new(AtomicU64::new(4)), taken), say);
        ["a", "b", "c", "d"].into_iter().for_each(|line| output.tell(line));
        output.flush(Duration::from_secs(10));
        let lines: Vec<_> = read.try_iter().map(|line| String::from_utf8(line).unwrap()).collect();
        assert_eq!(lines, ["d", "3 lost\n"]);
    }
}
