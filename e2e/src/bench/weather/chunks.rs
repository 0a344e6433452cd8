//! Chunked bodies (RFC 9112, section 7.1): bytes go in, the next chunk's data comes out, once all of it is there.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

/// Where a chunk's data is, and where the next chunk begins. The last one has no data.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    pub data: Range<usize>,
    pub end: usize,
}

/// None as long as it is not complete.
pub fn read_chunk(bytes: &[u8]) -> Result<Option<Chunk>> {
    let Some(line) = bytes.windows(2).position(|window| window == b"\r\n") else {
        ensure!(bytes.len() < 64, "a chunk without a size");
        return Ok(None);
    };
    let size = std::str::from_utf8(&bytes[..line]).context("a chunk's size that is not text")?;
    // What may follow a semicolon says nothing about the data.
    let digits = size.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(digits, 16).with_context(|| format!("a chunk of size {digits:?}"))?;
    let data = line + 2..line + 2 + size;
    let end = data.end + 2;
    if bytes.len() < end {
        return Ok(None);
    }
    ensure!(
        &bytes[data.end..end] == b"\r\n",
        "a chunk that is longer than it says"
    );
    Ok(Some(Chunk { data, end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_read_when_it_is_complete() {
        let bytes = b"5;x=y\r\nhello\r\n0\r\n\r\n";
        let chunk = read_chunk(bytes).unwrap().unwrap();
        assert_eq!(&bytes[chunk.data.clone()], b"hello");
        let last = read_chunk(&bytes[chunk.end..]).unwrap().unwrap();
        assert!(last.data.is_empty() && chunk.end + last.end == bytes.len());
        for cut in 0..chunk.end {
            assert_eq!(read_chunk(&bytes[..cut]).unwrap(), None, "{cut}");
        }
        for bad in ["x\r\n", "1\r\nabc\r\n"] {
            assert!(read_chunk(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
