//! Reading bbolt files (go.etcd.io/bbolt, file format version 2), and no more of them than is asked
//! for.
//!
//! A file is pages of one size. Two meta pages hold the root of the tree of buckets; the one with the
//! newer transaction and a right checksum counts. A bucket is a tree of branch and leaf pages, or,
//! while it is small, a page within its own entry. What lies in no tree (free pages, older states) is
//! never read. Nothing is written here, and no file makes it read for ever or beyond its bounds.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom};

use zeroize::Zeroizing;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// Of a page, before what it holds: its number, kind, count, and how many pages more it goes on for.
const HEADER: usize = 16;
const META: usize = 64;
const ELEMENT: usize = 16;
/// Before a bucket's page within its own entry, or alone: the number of its root, and its sequence.
const BUCKET: usize = 16;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META_PAGE: u16 = 0x04;
const IS_BUCKET: u32 = 0x01;

/// The page sizes of operating systems, and the bounds of what is believed.
const PAGE_SIZE_MIN: u32 = 512;
const PAGE_SIZE_MAX: u32 = 64 * 1024;

/// A page with its continuation at most: one entry may be large, and not that large.
const SPAN_MAX: u64 = 16 * 1024 * 1024;

/// Trees of a million entries are four pages deep.
const DEPTH_MAX: usize = 32;

/// All that is read of one bucket at most: its pages, and its entries, of which many may claim the same
/// bytes of a page.
const BUCKET_MAX: u64 = 32 * 1024 * 1024;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BoltError {
    /// The disk.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is no such file, or one that is damaged from its beginning.
    #[error("it is not a bbolt database, or damaged")]
    NoBolt,
    /// Something in it contradicts itself.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// An entry of a bucket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its key.
    pub(super) key: Vec<u8>,
    /// Its value.
    pub(super) value: Zeroizing<Vec<u8>>,
    /// Where in the file the value begins.
    pub(super) at: u64,
}

/// A database.
pub(super) struct Bolt<R> {
    file: R,
    length: u64,
    page_size: u32,
    root: u64,
    /// Pages there are, as the newest meta page says.
    pages: u64,
}

struct Meta {
    page_size: u32,
    root: u64,
    pages: u64,
    transaction: u64,
}

/// What may still be read of a bucket.
struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(BUCKET_MAX)
    }
}

impl Budget {
    fn spend(&mut self, bytes: usize) -> Result<(), BoltError> {
        self.0 = self.0.checked_sub(bytes as u64).ok_or(BoltError::Damaged("a bucket is too large"))?;
        Ok(())
    }
}

/// Bytes of the file and where they begin.
struct Page {
    bytes: Zeroizing<Vec<u8>>,
    at: u64,
}

impl<R: Read + Seek> Bolt<R> {
    /// Finds the newest whole state of the database.
    pub(super) fn open(mut file: R) -> Result<Self, BoltError> {
        let length = file.seek(SeekFrom::End(0))?;
        let first = meta_at(&mut file, length, 0)?;
        let sizes: Vec<u32> = match &first {
            Some(meta) => vec![meta.page_size],
            // The first was being written when the machine stopped: the second is one page behind.
            None => (9..=16).map(|power| 1 << power).collect(),
        };
        let mut metas: Vec<Meta> = first.into_iter().collect();
        for size in sizes {
            let second = meta_at(&mut file, length, u64::from(size))?;
            metas.extend(second.filter(|meta| meta.page_size == size));
        }
        let newest = metas.into_iter().max_by_key(|meta| meta.transaction).ok_or(BoltError::NoBolt)?;
        Ok(Self { file, length, page_size: newest.page_size, root: newest.root, pages: newest.pages })
    }

    /// The entries of a bucket at the top, in the order of their keys; `None` where there is none of
    /// that name. Buckets within it are left out.
    pub(super) fn bucket(&mut self, name: &[u8]) -> Result<Option<Vec<Entry>>, BoltError> {
        let mut root = None;
        let top = self.root;
        self.walk(top, &mut |is_bucket, entry| {
            if is_bucket && entry.key == name {
                root = Some(entry);
            }
        })?;
        let Some(bucket) = root else { return Ok(None) };
        let number = u64_at(&bucket.value, 0).ok_or(BoltError::Damaged("a bucket without a root"))?;
        let mut entries = Vec::new();
        let mut keep = |is_bucket: bool, entry| {
            if !is_bucket {
                entries.push(entry);
            }
        };
        if number == 0 {
            let inline = bucket.value.get(BUCKET..).ok_or(BoltError::Damaged("a bucket without a page"))?;
            let page = Page { bytes: Zeroizing::new(inline.to_vec()), at: bucket.at + BUCKET as u64 };
            leaf(&page, &mut Budget::default(), &mut keep)?;
        } else {
            self.walk(number, &mut keep)?;
        }
        Ok(Some(entries))
    }

    /// Every entry of the tree at page `root`, in order, with whether it is a bucket.
    fn walk(&mut self, root: u64, found: &mut dyn FnMut(bool, Entry)) -> Result<(), BoltError> {
        let mut seen = BTreeSet::new();
        let mut budget = Budget::default();
        let mut stack = vec![(root, 0)];
        while let Some((number, depth)) = stack.pop() {
            if depth > DEPTH_MAX || !seen.insert(number) {
                return Err(BoltError::Damaged("its pages lead in circles"));
            }
            let page = self.page(number)?;
            budget.spend(page.bytes.len())?;
            match u16_at(&page.bytes, 8) {
                Some(LEAF) => leaf(&page, &mut budget, found)?,
                Some(BRANCH) => {
                    let children = branch(&page)?;
                    stack.extend(children.into_iter().rev().map(|child| (child, depth + 1)));
                }
                Some(_) | None => return Err(BoltError::Damaged("a page is of another kind than it should be")),
            }
        }
        Ok(())
    }

    fn page(&mut self, number: u64) -> Result<Page, BoltError> {
        if number < 2 || number >= self.pages {
            return Err(BoltError::Damaged("a page is named that does not exist"));
        }
        let size = u64::from(self.page_size);
        let at = number.checked_mul(size).ok_or(BoltError::Damaged("a page lies beyond all bounds"))?;
        let header = read(&mut self.file, self.length, at, HEADER as u64)?;
        if u64_at(&header, 0) != Some(number) {
            return Err(BoltError::Damaged("a page says that it is another one"));
        }
        let more = u64::from(u32_at(&header, 12).unwrap_or(u32::MAX));
        let span = (more + 1).checked_mul(size).filter(|span| *span <= SPAN_MAX);
        let span = span.ok_or(BoltError::Damaged("a page is too long"))?;
        Ok(Page { bytes: read(&mut self.file, self.length, at, span)?, at })
    }
}

/// `length` bytes at `at`, which lie within the file.
fn read<R: Read + Seek>(file: &mut R, total: u64, at: u64, length: u64) -> Result<Zeroizing<Vec<u8>>, BoltError> {
    if at.checked_add(length).is_none_or(|end| end > total) {
        return Err(BoltError::Damaged("it ends too early"));
    }
    let length = usize::try_from(length).map_err(|_| BoltError::Damaged("a page is too long"))?;
    let mut bytes = Zeroizing::new(vec![0; length]);
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The meta page at `at`, if there is a whole one.
fn meta_at<R: Read + Seek>(file: &mut R, total: u64, at: u64) -> Result<Option<Meta>, BoltError> {
    let length = (HEADER + META) as u64;
    if at.checked_add(length).is_none_or(|end| end > total) {
        return Ok(None);
    }
    let page = read(file, total, at, length)?;
    Ok(meta_in(&page))
}

fn meta_in(page: &[u8]) -> Option<Meta> {
    let meta = page.get(HEADER..)?;
    let whole = u16_at(page, 8)? == META_PAGE
        && u32_at(meta, 0)? == MAGIC
        && u32_at(meta, 4)? == VERSION
        && u64_at(meta, 56)? == fnv1a(meta.get(..56)?);
    let page_size = u32_at(meta, 8)?;
    let sane = page_size.is_power_of_two() && (PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&page_size);
    (whole && sane).then_some(())?;
    Some(Meta { page_size, root: u64_at(meta, 16)?, pages: u64_at(meta, 40)?, transaction: u64_at(meta, 48)? })
}

/// The entries of a leaf page.
fn leaf(page: &Page, budget: &mut Budget, found: &mut dyn FnMut(bool, Entry)) -> Result<(), BoltError> {
    for index in 0..usize::from(u16_at(&page.bytes, 10).ok_or(BoltError::Damaged("a leaf without a head"))?) {
        let (is_bucket, entry) =
            leaf_element(page, index).ok_or(BoltError::Damaged("an entry lies out of its page"))?;
        budget.spend(entry.key.len() + entry.value.len())?;
        found(is_bucket, entry);
    }
    Ok(())
}

fn leaf_element(page: &Page, index: usize) -> Option<(bool, Entry)> {
    let bytes = &page.bytes;
    let element = HEADER + index * ELEMENT;
    let [flags, offset, key_length, value_length] =
        [0, 4, 8, 12].map(|at| u32_at(bytes, element + at).and_then(|number| usize::try_from(number).ok()));
    let key_at = element.checked_add(offset?)?;
    let value_at = key_at.checked_add(key_length?)?;
    let end = value_at.checked_add(value_length?)?;
    let key = bytes.get(key_at..value_at)?.to_vec();
    let value = Zeroizing::new(bytes.get(value_at..end)?.to_vec());
    let is_bucket = flags? & IS_BUCKET as usize != 0;
    Some((is_bucket, Entry { key, value, at: page.at + value_at as u64 }))
}

/// The pages that a branch page leads to.
fn branch(page: &Page) -> Result<Vec<u64>, BoltError> {
    let count = usize::from(u16_at(&page.bytes, 10).unwrap_or_default());
    let child = |index| u64_at(&page.bytes, HEADER + index * ELEMENT + 8);
    (0..count).map(|index| child(index).ok_or(BoltError::Damaged("a branch is longer than its page"))).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The checksum of meta pages: FNV-1a of 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A database that bbolt itself wrote, with pages of 1,024 bytes: `small` lies in its own entry,
    /// `many` has branches, and `long` an entry that goes on over several pages.
    const REAL: &[u8] = include_bytes!("../../tests/data/real.bolt");

    fn bucket(bytes: &[u8], name: &str) -> Result<Option<Vec<Entry>>, BoltError> {
        Bolt::open(Cursor::new(bytes))?.bucket(name.as_bytes())
    }

    #[test]
    fn what_bbolt_wrote_is_read_whole_and_in_order() {
        let small = bucket(REAL, "small").unwrap().unwrap();
        assert_eq!(
            (small.len(), small[0].key.as_slice(), small[0].value.as_slice()),
            (1, &b"a"[..], &br#"{"n":1}"#[..])
        );
        let many = bucket(REAL, "many").unwrap().unwrap();
        assert_eq!(many.len(), 300);
        assert!(many.is_sorted_by(|one, two| one.key < two.key));
        assert_eq!(many[42].value.as_slice(), br#"{"n":42,"text":"some text to fill the page"}"#);
        let long = bucket(REAL, "long").unwrap().unwrap();
        assert_eq!((long.len(), long[0].value.len()), (1, 5_002));
        assert!(bucket(REAL, "empty").unwrap().unwrap().is_empty());
        assert!(bucket(REAL, "none").unwrap().is_none());
    }

    #[test]
    fn a_value_lies_where_it_is_said_to() {
        for name in ["small", "many", "long"] {
            for entry in bucket(REAL, name).unwrap().unwrap() {
                let at = usize::try_from(entry.at).unwrap();
                assert_eq!(&REAL[at..at + entry.value.len()], entry.value.as_slice());
            }
        }
    }

    #[test]
    fn either_meta_page_is_enough() {
        let newest = bucket(REAL, "many").unwrap().unwrap().len();
        for broken in [HEADER + 20, 1024 + HEADER + 20] {
            let mut bytes = REAL.to_vec();
            bytes[broken] ^= 1;
            // The older state may lack what the last transaction wrote, and is whole.
            assert!(bucket(&bytes, "many").unwrap().unwrap().len().abs_diff(newest) <= 1);
        }
        let mut bytes = REAL.to_vec();
        bytes[HEADER + 20] ^= 1;
        bytes[1024 + HEADER + 20] ^= 1;
        assert!(matches!(bucket(&bytes, "many"), Err(BoltError::NoBolt)));
    }

    #[test]
    fn no_flipped_byte_and_no_early_end_breaks_more_than_the_answer() {
        for at in (0..REAL.len()).step_by(7) {
            let mut bytes = REAL.to_vec();
            bytes[at] ^= 0xff;
            for name in ["small", "many", "long"] {
                drop(bucket(&bytes, name));
            }
        }
        for end in (0..REAL.len()).step_by(97) {
            drop(bucket(&REAL[..end], "many"));
        }
        assert!(matches!(bucket(&[], "many"), Err(BoltError::NoBolt)));
        assert!(matches!(bucket(&[0; 4096], "many"), Err(BoltError::NoBolt)));
    }

    /// 65,535 entries of one page, each of which claims the same mebibyte.
    #[test]
    fn entries_that_claim_the_same_bytes_are_not_copied_without_end() {
        const PAGE: usize = 4096;
        const COUNT: usize = u16::MAX as usize;
        let (elements, claimed) = (HEADER + COUNT * ELEMENT, 1 << 20);
        let pages = 2 + (elements + claimed).div_ceil(PAGE);
        let mut bytes = vec![0; pages * PAGE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let mut meta = [0; META];
        for (at, value) in [(0, MAGIC), (4, VERSION), (8, PAGE as u32)] {
            meta[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        for (at, value) in [(16, 2), (40, pages as u64)] {
            meta[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
        }
        let sum = fnv1a(&meta[..56]);
        meta[56..].copy_from_slice(&sum.to_le_bytes());
        put(8, &META_PAGE.to_le_bytes());
        put(HEADER, &meta);
        let leaf = 2 * PAGE;
        put(leaf, &2_u64.to_le_bytes());
        put(leaf + 8, &LEAF.to_le_bytes());
        put(leaf + 10, &u16::MAX.to_le_bytes());
        put(leaf + 12, &u32::try_from(pages - 3).unwrap().to_le_bytes());
        for index in 0..COUNT {
            let element = HEADER + index * ELEMENT;
            put(leaf + element + 4, &u32::try_from(elements - element).unwrap().to_le_bytes());
            put(leaf + element + 12, &u32::try_from(claimed).unwrap().to_le_bytes());
        }
        let told = bucket(&bytes, "many");
        assert!(matches!(told, Err(BoltError::Damaged("a bucket is too large"))), "{told:?}");
    }

    #[test]
    fn pages_in_a_circle_are_left() {
        let mut bytes = REAL.to_vec();
        for page in (2..REAL.len() / 1024).filter(|page| u16_at(REAL, page * 1024 + 8) == Some(BRANCH)) {
            let child = page * 1024 + HEADER + 8;
            bytes[child..child + 8].copy_from_slice(&(page as u64).to_le_bytes());
        }
        let told = bucket(&bytes, "many");
        assert!(matches!(told, Err(BoltError::Damaged("its pages lead in circles"))), "{told:?}");
    }
}
