//! Prometheus' text format 0.0.4.

use std::fmt::{Display, Write};

/// Grows one family after another. A family without samples is left out.
#[derive(Debug, Default)]
pub(super) struct Text {
    out: String,
    /// Head of the family at hand, until it has a sample.
    head: Option<String>,
    name: &'static str,
}

impl Text {
    /// Begins a family; `kind` is `gauge` or `counter`.
    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) -> &mut Text {
        self.head = Some(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        self.name = name;
        self
    }

    /// Adds a sample; a value that is not known is left out.
    pub(super) fn sample<V: Display>(
        &mut self,
        labels: &[(&str, &str)],
        value: Option<V>,
    ) -> &mut Text {
        let Some(value) = value else {
            return self;
        };
        if let Some(head) = self.head.take() {
            self.out.push_str(&head);
        }
        self.out.push_str(self.name);
        self.labels(labels);
        // Writing into a string does not fail.
        let _ = writeln!(self.out, " {value}");
        self
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        for (number, (name, value)) in labels.iter().enumerate() {
            self.out.push(if number == 0 { '{' } else { ',' });
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

fn escape(out: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_label_stays_one_label() {
        let mut text = Text::default();
        text.family("x", "gauge", "An x.")
            .sample(&[("a", "q\"}\n\\ 1"), ("b", "")], Some(1));
        let expected = "# HELP x An x.\n# TYPE x gauge\nx{a=\"q\\\"}\\n\\\\ 1\",b=\"\"} 1\n";
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn what_is_not_known_is_absent_with_its_head() {
        let mut text = Text::default();
        text.family("x", "gauge", "An x.").sample(&[], None::<u64>);
        text.family("y", "gauge", "A y.").sample(&[], Some(0.5));
        assert_eq!(text.finish(), "# HELP y A y.\n# TYPE y gauge\ny 0.5\n");
    }
}
