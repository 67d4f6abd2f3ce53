//! The slices of a record that stay.

use crate::scan::Element;

/// Collects what is left of `input` while cuts are made from front to back.
pub(crate) struct Cuts<'a> {
    input: &'a [u8],
    output: Vec<u8>,
    /// Everything before this position is either in `output` or cut.
    done: usize,
}

impl<'a> Cuts<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Cuts {
            input,
            output: Vec::new(),
            done: 0,
        }
    }

    /// Leaves out the bytes `from..to`; cuts come in order and do not overlap.
    #[inline]
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        if self.done == 0 {
            self.output.reserve(self.input.len());
        }
        self.output.extend_from_slice(&self.input[self.done..from]);
        self.done = to;
    }

    /// The bytes that stay, or nothing if no cut was made.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if self.done == 0 {
            return None;
        }
        self.output.extend_from_slice(&self.input[self.done..]);
        Some(self.output)
    }
}

/// Decides over the elements of one array or object, so that its commas stay right: an element
/// falls with the comma before it, and the first that stays loses its own.
#[derive(Default)]
pub(crate) struct Choice {
    any_kept: bool,
}

impl Choice {
    /// Call it before cuts inside the element.
    #[inline]
    pub(crate) fn keep(&mut self, cuts: &mut Cuts<'_>, element: Element) {
        if !self.any_kept {
            self.any_kept = true;
            if let Some(comma) = element.comma {
                cuts.cut(comma, element.start);
            }
        }
    }

    /// Call it with the position behind the element.
    #[inline]
    pub(crate) fn drop(&mut self, cuts: &mut Cuts<'_>, element: Element, end: usize) {
        cuts.cut(element.comma.unwrap_or(element.start), end);
    }

    pub(crate) fn any_kept(&self) -> bool {
        self.any_kept
    }
}
