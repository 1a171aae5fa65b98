//! The log channel: a line on the terminal for each page.
//!
//! Writes to the terminal, whatever the log level. Names
//! from outside lose their control characters: none of them may command the terminal.

use fenghuo_alert::Severity;

use super::Delivery;
use crate::Action;
use crate::config::Colour;
use crate::retry::Verdict;
use crate::terminal::Terminal;
use crate::text::one_line;

const LINE_CHARS_MAX: usize = 512;

pub(crate) struct Log {
    terminal: Terminal,
    colour: bool,
    utc_offset_min: i32,
    /// Whether the text follows the line, for channels with a template of their own.
    with_text: bool,
}

impl Log {
    pub(crate) fn new(
        terminal: Terminal,
        colour: Colour,
        utc_offset_min: i32,
        with_text: bool,
    ) -> Self {
        let colour = match colour {
            Colour::Auto => terminal.colour,
            Colour::Always => true,
            Colour::Never => false,
        };
        Self {
            terminal,
            colour,
            utc_offset_min,
            with_text,
        }
    }

    pub(crate) async fn print(&self, delivery: &Delivery<'_>) -> Verdict {
        match self.terminal.write(self.render(delivery)).await {
            Ok(()) => Verdict::Delivered,
            Err(why) => Verdict::retry(&*why),
        }
    }

    fn render(&self, delivery: &Delivery<'_>) -> String {
        let (page, message) = (delivery.page, delivery.message);
        let alert = &page.alert;
        let (word, colour) = match (page.action, alert.severity) {
            (Action::Resolve, _) => ("RESOLVED", "32"),
            (Action::Trigger, Severity::Page) => ("PAGE", "1;31"),
            (Action::Trigger, Severity::Warn) => ("WARN", "33"),
        };
        let mut line = format!("{} {}: {}", alert.rule, alert.entity, message.title);
        if page.action == Action::Trigger {
            let plan = [("playbook", &alert.playbook), ("owner", &alert.owner_role)];
            let plan = plan
                .iter()
                .filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?)));
            let plan = plan.collect::<Vec<_>>().join(", ");
            if !plan.is_empty() {
                line.push_str(&format!(" ({plan})"));
            }
        }
        let line = one_line(&line, LINE_CHARS_MAX);
        let line = format!("{} {word:<8} {line}", self.time(alert.at_ms));
        let mut text = if self.colour {
            format!("\x1b[{colour}m{line}\x1b[0m\n")
        } else {
            format!("{line}\n")
        };
        let more = (self.with_text || message.template_error.is_some()).then_some(&message.text);
        for line in more.into_iter().flat_map(|text| text.lines()) {
            text.push_str(&format!("    {}\n", one_line(line, LINE_CHARS_MAX)));
        }
        text
    }

    /// `2026-11-11 20:00:03+08:00`; the event's time, since the page is about that.
    fn time(&self, at_ms: i64) -> String {
        let zoned = jiff::tz::Offset::from_seconds(self.utc_offset_min * 60).and_then(|offset| {
            let at = jiff::Timestamp::from_millisecond(at_ms)?;
            Ok(at.to_zoned(jiff::tz::TimeZone::fixed(offset)))
        });
        zoned.map_or_else(
            |_| crate::render::time(at_ms),
            |at| at.strftime("%Y-%m-%d %H:%M:%S%:z").to_string(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture;

    fn log(colour: Colour, with_text: bool) -> Log {
        Log::new(
            Terminal::new(Box::new(std::io::sink()), false),
            colour,
            480,
            with_text,
        )
    }

    #[test]
    fn a_page_is_a_line() {
        let mut shown = String::new();
        for page in [fixture::firing(), fixture::warning(), fixture::resolved()] {
            let message = fixture::message(&page);
            let delivery = Delivery {
                page: &page,
                message: &message,
                now_ms: 0,
            };
            for (colour, with_text) in [(Colour::Auto, true), (Colour::Always, false)] {
                shown.push_str(&log(colour, with_text).render(&delivery));
            }
        }
        insta::assert_snapshot!(shown.replace('\x1b', "ESC"));
    }

    #[test]
    fn a_name_from_outside_commands_no_terminal() {
        let mut page = fixture::firing();
        page.alert.entity.first = "\x1b]0;owned\x07\u{9b}2J".into();
        page.alert.summary = "two\nlines\x1b[2J".to_owned();
        let message = fixture::message(&page);
        let delivery = Delivery {
            page: &page,
            message: &message,
            now_ms: 0,
        };
        let text = log(Colour::Never, true).render(&delivery);
        assert!(
            text.chars().all(|c| c == '\n' || !c.is_control()),
            "{text:?}"
        );
    }

    #[tokio::test]
    async fn a_broken_terminal_is_tried_again() {
        struct Broken;
        impl std::io::Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Log::new(
            Terminal::new(Box::new(Broken), false),
            Colour::Auto,
            0,
            false,
        );
        let page = fixture::firing();
        let message = fixture::message(&page);
        let delivery = Delivery {
            page: &page,
            message: &message,
            now_ms: 0,
        };
        assert_eq!(log.print(&delivery).await.as_str(), "retry");
    }
}
