//! Writes MessagePack, always in the shortest form.

/// A frame under construction.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity) }
    }

    pub(crate) fn into_inner(self) -> Vec<u8> {
        self.out
    }

    /// Appends a value that is MessagePack already.
    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    pub(crate) fn nil(&mut self) {
        self.out.push(0xc0);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.out.push(if value { 0xc3 } else { 0xc2 });
    }

    fn tagged<const N: usize>(&mut self, marker: u8, bytes: [u8; N]) {
        self.out.push(marker);
        self.out.extend_from_slice(&bytes);
    }

    #[inline]
    pub(crate) fn uint(&mut self, value: u64) {
        if value < 0x80 {
            self.out.push(value as u8);
        } else if let Ok(small) = u8::try_from(value) {
            self.tagged(0xcc, [small]);
        } else if let Ok(small) = u16::try_from(value) {
            self.tagged(0xcd, small.to_be_bytes());
        } else if let Ok(small) = u32::try_from(value) {
            self.tagged(0xce, small.to_be_bytes());
        } else {
            self.tagged(0xcf, value.to_be_bytes());
        }
    }

    pub(crate) fn int(&mut self, value: i64) {
        if let Ok(positive) = u64::try_from(value) {
            self.uint(positive);
        } else if value >= -32 {
            self.out.push(value as i8 as u8);
        } else if let Ok(small) = i8::try_from(value) {
            self.tagged(0xd0, small.to_be_bytes());
        } else if let Ok(small) = i16::try_from(value) {
            self.tagged(0xd1, small.to_be_bytes());
        } else if let Ok(small) = i32::try_from(value) {
            self.tagged(0xd2, small.to_be_bytes());
        } else {
            self.tagged(0xd3, value.to_be_bytes());
        }
    }

    #[inline]
    pub(crate) fn float(&mut self, value: f64) {
        self.tagged(0xcb, value.to_be_bytes());
    }

    /// A whole number as an integer (workers print durations as they come), any other as a float.
    pub(crate) fn number(&mut self, value: f64) {
        if value.fract() == 0.0 && value.abs() < 9e15 {
            self.int(value as i64);
        } else {
            self.float(value);
        }
    }

    fn sized(&mut self, length: usize, fix: Option<(u8, usize)>, markers: [Option<u8>; 3]) {
        if let Some((marker, below)) = fix
            && length < below
        {
            self.out.push(marker | length as u8);
        } else if let (Some(marker), Ok(small)) = (markers[0], u8::try_from(length)) {
            self.tagged(marker, [small]);
        } else if let (Some(marker), Ok(small)) = (markers[1], u16::try_from(length)) {
            self.tagged(marker, small.to_be_bytes());
        } else if let Some(marker) = markers[2] {
            // Frames are limited to 32 MiB on either side, so a length never comes near 2^32.
            self.tagged(marker, (length as u32).to_be_bytes());
        }
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.sized(value.len(), Some((0xa0, 32)), [Some(0xd9), Some(0xda), Some(0xdb)]);
        self.out.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn bin(&mut self, value: &[u8]) {
        self.sized(value.len(), None, [Some(0xc4), Some(0xc5), Some(0xc6)]);
        self.out.extend_from_slice(value);
    }

    pub(crate) fn array(&mut self, count: usize) {
        self.sized(count, Some((0x90, 16)), [None, Some(0xdc), Some(0xdd)]);
    }

    pub(crate) fn map(&mut self, count: usize) {
        self.sized(count, Some((0x80, 16)), [None, Some(0xde), Some(0xdf)]);
    }

    pub(crate) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.nil(),
        }
    }

    pub(crate) fn texts(&mut self, values: &[impl AsRef<str>]) {
        self.array(values.len());
        for value in values {
            self.text(value.as_ref());
        }
    }
}
