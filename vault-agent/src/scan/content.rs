//! The content of one file, read within the bounds of a scan: holes are not read, nobody waits for
//! more than was there at the start, and the bytes are counted.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

use rustix::io::Errno;

use super::control::Control;

/// What a scan may still read, and why it has ended before its time.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) bytes: u64,
    pub(super) files: u64,
    pub(super) until: std::time::Instant,
}

/// Why a scan goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The agent ends, or the settings have changed.
    Stopped,
    /// `max_bytes` are read.
    Bytes,
    /// `max_files` are read.
    Files,
    /// `max_time` is over.
    Time,
}

impl Budget {
    /// Tells why to go no further, if so.
    pub(super) fn end(&self, control: &Control) -> Option<End> {
        if !control.goes_on() {
            Some(End::Stopped)
        } else if self.bytes == 0 {
            Some(End::Bytes)
        } else if self.files == 0 {
            Some(End::Files)
        } else {
            (std::time::Instant::now() >= self.until).then_some(End::Time)
        }
    }
}

/// Returns how many bytes of a file are read: holes are not.
pub(super) fn size(about: &Metadata) -> u64 {
    about.len().min(about.blocks().saturating_mul(512))
}

/// A file as a stream; each hole in it is a single zero.
pub(super) struct Content<'a> {
    file: File,
    at: u64,
    /// Where the data ends that is being read.
    data: u64,
    end: u64,
    is_sparse: bool,
    budget: &'a mut Budget,
    control: &'a Control,
    /// Why it ended before the file did.
    pub(super) cut: Option<End>,
}

impl<'a> Content<'a> {
    /// Reads a file up to the end that it had when it was opened.
    pub(super) fn new(
        file: io::Take<File>,
        budget: &'a mut Budget,
        control: &'a Control,
    ) -> io::Result<Self> {
        let end = file.limit();
        let file = file.into_inner();
        let is_sparse = file.metadata()?.blocks().saturating_mul(512) < end;
        let data = if is_sparse { 0 } else { end };
        Ok(Self { file, at: 0, data, end, is_sparse, budget, control, cut: None })
    }

    /// Goes to the next data; tells whether a hole was passed on the way. `None` where there is no
    /// more.
    fn next_data(&mut self) -> io::Result<Option<bool>> {
        let from = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(self.at)) {
            Ok(from) => from,
            Err(Errno::NXIO) => return Ok(None),
            // A file system that knows of no holes.
            Err(_) => {
                (self.is_sparse, self.data) = (false, self.end);
                self.file.seek(SeekFrom::Start(self.at))?;
                return Ok(Some(false));
            }
        };
        let to = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(from));
        self.data = to.unwrap_or(self.end).min(self.end);
        self.file.seek(SeekFrom::Start(from))?;
        let passed = from > self.at;
        self.at = from;
        Ok((from < self.end).then_some(passed))
    }
}

impl Read for Content<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if space.is_empty() || self.at >= self.end {
            return Ok(0);
        }
        if let Some(end) = self.budget.end(self.control) {
            self.cut = Some(end);
            return Ok(0);
        }
        if self.is_sparse && self.at >= self.data {
            match self.next_data()? {
                None => return Ok(0),
                Some(false) => {}
                // What is before a hole and what is behind it are not one.
                Some(true) => {
                    space[0] = 0;
                    return Ok(1);
                }
            }
        }
        let left = (self.data.min(self.end) - self.at).min(self.budget.bytes);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(space.len());
        let read = self.file.read(&mut space[..most])?;
        self.at += read as u64;
        self.budget.bytes -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use super::*;

    fn budget(bytes: u64) -> Budget {
        Budget { bytes, files: 1, until: Instant::now() + Duration::from_mins(5) }
    }

    fn read(file: &File, budget: &mut Budget) -> (Vec<u8>, Option<End>) {
        let control = Control::default();
        let (mut file, mut all) = (file.try_clone().unwrap(), Vec::new());
        file.seek(SeekFrom::Start(0)).unwrap();
        let length = file.metadata().unwrap().len();
        let mut content = Content::new(file.take(length), budget, &control).unwrap();
        content.read_to_end(&mut all).unwrap();
        (all, content.cut)
    }

    #[test]
    fn a_large_sparse_file_is_read_as_its_data() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"begin").unwrap();
        file.seek(SeekFrom::Start(10 << 30)).unwrap();
        file.write_all(b"end").unwrap();
        let begun = Instant::now();
        let (all, cut) = read(&file, &mut budget(1 << 30));
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(all.starts_with(b"begin") && all.ends_with(b"\0end") && all.len() < 1 << 20);
        assert_eq!(cut, None);
    }

    #[test]
    fn bounds_end_it_and_are_told() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 1000]).unwrap();
        assert_eq!(read(&file, &mut budget(1000)), (vec![7; 1000], None));
        let (all, cut) = read(&file, &mut budget(999));
        assert_eq!((all.len(), cut), (999, Some(End::Bytes)));
        let mut late = Budget { until: Instant::now(), ..budget(9) };
        assert_eq!(read(&file, &mut late), (vec![], Some(End::Time)));
    }
}
