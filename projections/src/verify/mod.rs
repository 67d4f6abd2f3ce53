//! The proof that replica and marts are what they should be.
