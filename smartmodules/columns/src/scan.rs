//! A cursor over JSON text that finds where values begin and end, and nothing else.
//!
//! It checks the structure as far as it needs it; whether numbers and escapes are right is for the
//! reader that decodes the record.

/// The text is not JSON, or not the JSON of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unscannable {
    /// Byte position in the record, from 0.
    pub(crate) position: usize,
}

pub(crate) type Scan<T> = Result<T, Unscannable>;

/// The raw text between two quotes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    pub(crate) raw: &'a [u8],
    /// It holds a backslash, so `raw` is not the text itself.
    pub(crate) escaped: bool,
}

impl Text<'_> {
    /// A name of the record format, which is never written with escapes.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.raw == name.as_bytes()
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn fail<T>(&self) -> Scan<T> {
        Err(Unscannable { position: self.at })
    }

    /// The next byte that is not white space, without passing it; 0 at the end.
    #[inline]
    pub(crate) fn peek(&mut self) -> u8 {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                Some(byte) => return *byte,
                None => return 0,
            }
        }
    }

    /// Passes `byte`, and white space before it.
    #[inline]
    pub(crate) fn expect(&mut self, byte: u8) -> Scan<()> {
        if self.peek() != byte {
            return self.fail();
        }
        self.at += 1;
        Ok(())
    }

    /// Passes a string.
    #[inline]
    pub(crate) fn text(&mut self) -> Scan<Text<'a>> {
        self.expect(b'"')?;
        let start = self.at;
        let escaped = self.rest_of_text()?;
        let raw = &self.bytes[start..self.at - 1];
        Ok(Text { raw, escaped })
    }

    /// Passes the name of a member and its colon.
    #[inline]
    pub(crate) fn name(&mut self) -> Scan<Text<'a>> {
        let name = self.text()?;
        self.expect(b':')?;
        Ok(name)
    }

    /// Passes a member name of the record format, which never needs escapes: one that has them
    /// could hide a member from a comparison of bytes.
    #[inline]
    pub(crate) fn plain_name(&mut self) -> Scan<Text<'a>> {
        let name = self.name()?;
        if name.escaped {
            return self.fail();
        }
        Ok(name)
    }

    /// From behind the opening quote to behind the closing one; true if there was a backslash.
    #[inline]
    fn rest_of_text(&mut self) -> Scan<bool> {
        let mut escaped = false;
        loop {
            self.at += plain_prefix(&self.bytes[self.at..]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(_) if self.at + 1 < self.bytes.len() => {
                    escaped = true;
                    self.at += 2;
                }
                _ => return self.fail(),
            }
        }
    }

    /// Passes a value of any kind.
    #[inline]
    pub(crate) fn skip_value(&mut self) -> Scan<()> {
        match self.peek() {
            b'"' => {
                self.at += 1;
                self.rest_of_text().map(|_| ())
            }
            b'{' | b'[' => self.skip_nested(),
            _ => self.skip_word(),
        }
    }

    /// A number, `true`, `false` or `null`.
    #[inline]
    fn skip_word(&mut self) -> Scan<()> {
        let start = self.at;
        while let Some(b'0'..=b'9' | b'a'..=b'z' | b'-' | b'+' | b'.' | b'E') =
            self.bytes.get(self.at)
        {
            self.at += 1;
        }
        if self.at == start {
            return self.fail();
        }
        Ok(())
    }

    fn skip_nested(&mut self) -> Scan<()> {
        let mut depth = 0_usize;
        loop {
            let Some(byte) = self.bytes.get(self.at) else {
                return self.fail();
            };
            self.at += 1;
            match byte {
                b'"' => {
                    self.rest_of_text()?;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }

    /// A copy of this cursor in front of the value of member `name` of the object that starts here.
    pub(crate) fn member(&self, name: &str) -> Scan<Option<Cursor<'a>>> {
        let mut ahead = *self;
        let mut walk = Walk::open(&mut ahead, b'{')?;
        while walk.next(&mut ahead)?.is_some() {
            if ahead.plain_name()?.is(name) {
                return Ok(Some(ahead));
            }
            ahead.skip_value()?;
        }
        Ok(None)
    }

    /// Like [`Cursor::member`], for a string that must be there.
    pub(crate) fn text_member(&self, name: &str) -> Scan<Text<'a>> {
        match self.member(name)? {
            Some(mut value) => value.text(),
            None => self.fail(),
        }
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Scan<()> {
        self.peek();
        if self.at < self.bytes.len() {
            return self.fail();
        }
        Ok(())
    }
}

/// Bytes before the first quote or backslash, eight at a time.
#[inline]
fn plain_prefix(bytes: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const QUOTES: u64 = LOW * b'"' as u64;
    const BACKSLASHES: u64 = LOW * b'\\' as u64;
    // The high bit of each byte of `word` that is zero, exact up to the lowest such byte.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let mut at = 0;
    for chunk in bytes.chunks_exact(8) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        let word = u64::from_le_bytes(eight);
        let found = zeros(word ^ QUOTES) | zeros(word ^ BACKSLASHES);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let tail = &bytes[at..];
    at + tail
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\'))
        .unwrap_or(tail.len())
}

/// The walk over the elements of an array or the members of an object.
pub(crate) struct Walk {
    close: u8,
    first: bool,
}

/// Where an element begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element {
    /// Its first byte.
    pub(crate) start: usize,
    /// The comma before it.
    pub(crate) comma: Option<usize>,
}

impl Walk {
    /// Passes the opening bracket, `{` or `[`.
    #[inline]
    pub(crate) fn open(cursor: &mut Cursor<'_>, bracket: u8) -> Scan<Walk> {
        cursor.expect(bracket)?;
        // '{' and '[' stand two before their counterparts in ASCII.
        let close = bracket + 2;
        Ok(Walk { close, first: true })
    }

    /// Goes to the next element, which the caller has to pass; or passes the closing bracket.
    #[inline]
    pub(crate) fn next(&mut self, cursor: &mut Cursor<'_>) -> Scan<Option<Element>> {
        let mut comma = None;
        let mut byte = cursor.peek();
        if !self.first && byte != self.close {
            cursor.expect(b',')?;
            comma = Some(cursor.at - 1);
            byte = cursor.peek();
            if byte == self.close {
                return cursor.fail();
            }
        }
        self.first = false;
        if byte == self.close {
            cursor.at += 1;
            return Ok(None);
        }
        let start = cursor.at;
        Ok(Some(Element { start, comma }))
    }
}
