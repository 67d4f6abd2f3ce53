//! Results of commands on standard output, whole and in order, however long their reader takes.
//!
//! A reader that has gone (`status --watch | head`) is no error: the command ends quietly, with the exit code that
//! it would have had. Rust's own macros panic there, so a lint keeps them out of this crate. Messages, and what is
//! printed while services run in this process, go through `output`, which never waits.

use std::io::{ErrorKind, Write};

use anyhow::Context;

/// Whether anybody still reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Everything was written.
    Listens,
    /// The pipe is closed; nothing that is written will be read.
    Gone,
}

/// Writes a result to standard output.
///
/// # Errors
/// If it cannot be written for another reason than a closed pipe, such as a full disk.
pub(crate) fn print(text: &str) -> anyhow::Result<Reader> {
    write(&mut std::io::stdout().lock(), text)
}

fn write(stream: &mut impl Write, text: &str) -> anyhow::Result<Reader> {
    let written = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
    match written {
        Ok(()) => Ok(Reader::Listens),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is() {
        assert_eq!(write(&mut Vec::new(), "text").unwrap(), Reader::Listens);
        assert_eq!(
            write(&mut Fails(ErrorKind::BrokenPipe), "text").unwrap(),
            Reader::Gone
        );
        let error = write(&mut Fails(ErrorKind::StorageFull), "text").unwrap_err();
        assert_eq!(error.to_string(), "cannot write to standard output");
    }
}
