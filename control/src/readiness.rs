//! Whether a service can do its work now.
//!
//! `/health` says whether the process lives: if not, it helps to start it again. `/ready` says whether the service
//! does its work: if not, something that it needs is missing, and starting it again does not help.

use serde::{Deserialize, Serialize};

use crate::Fault;

/// Why a service does not do its work. JSON: `{"error", "code", "detail"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotReady {
    /// In words of our own: names no value, no host and no user, so that everybody may read it.
    #[serde(rename = "error")]
    pub reason: String,
    /// Of the error behind it, if it has one: `docs/errors` explains it.
    #[serde(default)]
    pub code: Option<String>,
    /// The text of that error; for those who have the token.
    #[serde(default)]
    pub detail: Option<String>,
}

impl NotReady {
    /// For this reason, and with the last error that a service tells.
    pub fn new(reason: impl Into<String>, error: Option<&str>) -> NotReady {
        let fault = error.map(Fault::from);
        let (code, detail) = fault.map_or((None, None), |f| (f.code, Some(f.message)));
        NotReady {
            reason: reason.into(),
            code,
            detail,
        }
    }

    /// As strangers may read it.
    pub(crate) fn without_detail(self) -> NotReady {
        NotReady {
            detail: None,
            ..self
        }
    }
}

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_is_kept_apart_from_its_text() {
        let because = NotReady::new("MySQL fails", Some("[MR-P001] no route to db.example"));
        assert_eq!(because.code.as_deref(), Some("MR-P001"));
        assert_eq!(
            because.to_string(),
            "MySQL fails (MR-P001): no route to db.example"
        );
        assert_eq!(
            because.without_detail().to_string(),
            "MySQL fails (MR-P001)"
        );
    }
}
