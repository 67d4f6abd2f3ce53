//! An error as a service tells it, with its code where it has one.

use serde::{Deserialize, Deserializer, Serialize};

/// JSON: `{"code", "message"}`. Reads also the plain text that services send: `[MR-P002] …` and
/// `capture-config: …` carry a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// To be looked up in `docs/errors`.
    pub code: Option<String>,
    /// What happened.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Parts {
        #[serde(default)]
        code: Option<String>,
        message: String,
    },
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fault, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => Fault::from(text.as_str()),
            Form::Parts { code, message } => Fault { code, message },
        })
    }
}

impl From<&str> for Fault {
    fn from(text: &str) -> Fault {
        let (code, message) = match bracketed(text).or_else(|| prefixed(text)) {
            Some((code, message)) => (Some(code.to_owned()), message),
            None => (None, text),
        };
        let message = message.to_owned();
        Fault { code, message }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

fn bracketed(text: &str) -> Option<(&str, &str)> {
    let (code, message) = text.strip_prefix('[')?.split_once("] ")?;
    is_code(code).then_some((code, message))
}

fn prefixed(text: &str) -> Option<(&str, &str)> {
    let (code, message) = text.split_once(": ")?;
    let ours = ["capture-", "ingest-", "MR-"];
    let ours = ours.iter().any(|start| code.starts_with(start));
    (ours && is_code(code)).then_some((code, message))
}

fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_taken_from_both_forms_and_from_nothing_else() {
        let code = |text| Fault::from(text).code;
        assert_eq!(code("[MR-P002] away").as_deref(), Some("MR-P002"));
        assert_eq!(
            code("capture-config: bad").as_deref(),
            Some("capture-config")
        );
        assert_eq!(code("connection refused: who"), None);
        assert_eq!(Fault::from("[no code here] x").message, "[no code here] x");
    }

    #[test]
    fn a_fault_is_read_as_text_and_as_an_object() {
        let text: Fault = serde_json::from_str(r#""[MR-P002] away""#).unwrap();
        let parts: Fault = serde_json::from_str(r#"{"code":"MR-P002","message":"away"}"#).unwrap();
        assert_eq!(text, parts);
        assert_eq!(text.to_string(), "MR-P002: away");
    }
}
