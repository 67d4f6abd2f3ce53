//! A refused event as it was sent, as far as its dead letter shows it.

/// Made while reading, so that of many large events only what will be shown is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Original {
    /// What is not UTF-8 is shown as U+FFFD.
    pub(crate) text: String,
    /// `text` is only the beginning.
    pub(crate) truncated: bool,
    /// The event, shown or cut off, was not UTF-8.
    pub(crate) lossy: bool,
}

impl Original {
    /// Keeps at most `bytes_max` bytes of the event.
    pub(crate) fn of(value: &[u8], bytes_max: usize) -> Original {
        let kept = value.get(..bytes_max).unwrap_or(value);
        let truncated = kept.len() < value.len();
        Original {
            text: shown(kept, truncated),
            truncated,
            lossy: std::str::from_utf8(value).is_err(),
        }
    }
}

/// A character that the cut went through is left out.
fn shown(kept: &[u8], truncated: bool) -> String {
    match std::str::from_utf8(kept) {
        Err(error) if truncated && error.error_len().is_none() => {
            String::from_utf8_lossy(&kept[..error.valid_up_to()]).into_owned()
        }
        _ => String::from_utf8_lossy(kept).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_large_event_only_the_limit_is_held() {
        let original = Original::of("x".repeat(1_000_000).as_bytes(), 8);
        assert_eq!(original.text, "xxxxxxxx");
        assert!(original.text.capacity() <= 8);
        assert!(original.truncated && !original.lossy);
    }

    #[test]
    fn what_is_not_text_behind_the_cut_is_noticed() {
        let original = Original::of(b"12345678\xff", 8);
        assert_eq!(original.text, "12345678");
        assert!(original.truncated && original.lossy);
    }
}
