//! The HTTP interface of a running projector.
