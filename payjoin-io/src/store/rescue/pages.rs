//! SQLite's file, page by page and without SQLite: rows of table leaves, wherever they are.
//! <https://www.sqlite.org/fileformat2.html>, sections 1.6, 2.1 and 4.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The page size of every store of ours, for files whose header is damaged.
const PAGE: usize = 4096;
/// The first byte of a page that holds rows.
const LEAF: u8 = 0x0d;
/// The header of the log, and of each page in it.
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Of an Original and all else in a row together; BIP 78 bodies are shorter.
const LONGEST_ROW: usize = 8_000_000;

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Number,
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// The pages of a file, with those of the log beside it in their place.
pub(super) struct Pages {
    file: Vec<u8>,
    log: BTreeMap<usize, Vec<u8>>,
    size: usize,
}

impl Pages {
    /// Reads a file, and its log if there is one.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let file = std::fs::read(path)?;
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        let log = std::fs::read(name).unwrap_or_default();
        Ok(Self::new(file, &log))
    }

    fn new(file: Vec<u8>, log: &[u8]) -> Self {
        let whole = file.starts_with(b"SQLite format 3\0");
        let size = whole.then(|| number(&file, 16)).flatten();
        let size = size.map_or(PAGE, |size| if size == 1 { 65_536 } else { size });
        let size = if size.is_power_of_two() && size >= 512 { size } else { PAGE };
        let mut pages = Self { file, log: BTreeMap::new(), size };
        let Some((header, frames)) = log.split_at_checked(LOG_HEADER) else { return pages };
        for frame in frames.chunks_exact(FRAME_HEADER + size) {
            // Frames of an older log have another salt.
            if frame.get(8..16) == header.get(16..24)
                && let Some(page) = long(frame, 0)
                && let Some(content) = frame.get(FRAME_HEADER..)
            {
                pages.log.insert(page, content.to_vec());
            }
        }
        pages
    }

    /// All rows that are whole, with their numbers: those of every table, and some that were deleted.
    pub(super) fn rows(&self) -> Vec<(u64, Vec<Value>)> {
        let last = self.file.len().div_ceil(self.size).max(self.log.keys().next_back().copied().unwrap_or(0));
        (1..=last)
            .filter_map(|page| self.page(page).map(|bytes| (page, bytes)))
            .flat_map(|(page, bytes)| self.leaf(page, bytes))
            .collect()
    }

    /// Pages count from 1. The last one may be cut off.
    fn page(&self, number: usize) -> Option<&[u8]> {
        if let Some(page) = self.log.get(&number) {
            return Some(page);
        }
        let from = number.checked_sub(1)?.checked_mul(self.size)?;
        self.file.get(from..(from + self.size).min(self.file.len()))
    }

    fn leaf(&self, number_of_page: usize, page: &[u8]) -> Vec<(u64, Vec<Value>)> {
        // The first page begins with the header of the file.
        let start = if number_of_page == 1 { 100 } else { 0 };
        if page.get(start) != Some(&LEAF) {
            return Vec::new();
        }
        let cells = number(page, start + 3).unwrap_or(0);
        (0..cells).filter_map(|cell| self.row(page, number(page, start + 8 + 2 * cell)?)).collect()
    }

    fn row(&self, page: &[u8], at: usize) -> Option<(u64, Vec<Value>)> {
        let (length, at) = varint(page, at)?;
        let (id, at) = varint(page, at)?;
        let payload = self.payload(page, at, usize::try_from(length).ok()?)?;
        Some((id, record(&payload)?))
    }

    /// What does not fit in a page goes on in others, each of which begins with the number of the next.
    fn payload(&self, page: &[u8], at: usize, length: usize) -> Option<Vec<u8>> {
        if length > LONGEST_ROW {
            return None;
        }
        let most = self.size - 35;
        if length <= most {
            return page.get(at..at + length).map(<[u8]>::to_vec);
        }
        let least = (self.size - 12) * 32 / 255 - 23;
        let fits = least + (length - least) % (self.size - 4);
        let here = if fits <= most { fits } else { least };
        let mut payload = page.get(at..at + here)?.to_vec();
        let mut next = long(page, at + here)?;
        while payload.len() < length {
            let more = self.page(next)?;
            let end = more.len().min(4 + length - payload.len());
            let part = more.get(4..end).filter(|part| !part.is_empty())?;
            payload.extend_from_slice(part);
            next = long(more, 0)?;
        }
        Some(payload)
    }
}

/// Section 2.1, "Record Format".
fn record(payload: &[u8]) -> Option<Vec<Value>> {
    let (header, mut at) = varint(payload, 0)?;
    let mut body = usize::try_from(header).ok()?;
    let end = body;
    let mut values = Vec::new();
    while at < end {
        let (kind, next) = varint(payload, at)?;
        at = next;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            text_or_blob => (text_or_blob - 12) / 2,
        };
        let length = usize::try_from(length).ok()?;
        let bytes = payload.get(body..body.checked_add(length)?)?;
        body += length;
        values.push(match kind {
            0 => Value::Null,
            1..=11 => Value::Number,
            blob if blob % 2 == 0 => Value::Blob(bytes.to_vec()),
            _ => Value::Text(bytes.to_vec()),
        });
    }
    Some(values)
}

/// A number of one to nine bytes, and where the next thing begins.
fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for turn in 0..9 {
        let byte = *bytes.get(at)?;
        at += 1;
        if turn == 8 {
            return Some((value << 8 | u64::from(byte), at));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            break;
        }
    }
    Some((value, at))
}

/// Two bytes.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(usize::from(u16::from_be_bytes(bytes)))
}

/// Four bytes.
fn long(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_to_nine_bytes() {
        for (bytes, value) in
            [(&[0x7f][..], 127), (&[0x81, 0x00], 128), (&[0xff; 9], u64::MAX), (&[0x80, 0x80, 0x01], 1)]
        {
            assert_eq!(varint(bytes, 0), Some((value, bytes.len())));
        }
        assert_eq!(varint(&[0x81], 0), None);
    }

    #[test]
    fn no_bytes_make_it_fail() {
        let mut seed = 1_u64;
        for length in [0, 1, 99, 100, 4095, 4096, 4097, 12_288] {
            for _ in 0..50 {
                let mut next = || {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 56) as u8
                };
                let mut file: Vec<u8> = (0..length).map(|_| next()).collect();
                file.iter_mut().step_by(4096).for_each(|first| *first = LEAF);
                let log: Vec<u8> = (0..length).map(|_| next()).collect();
                drop(Pages::new(file, &log).rows());
            }
        }
    }
}
