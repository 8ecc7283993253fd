//! What a command prints: a table for people, or the server's JSON as it is. Text from a server is shown without control characters.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::error::CliError;

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Where a command prints to, in which form.
pub struct Output<'a> {
    format: Format,
    writer: &'a mut (dyn Write + Send),
}

impl<'a> Output<'a> {
    /// An output in a form to a writer.
    pub fn new(format: Format, writer: &'a mut (dyn Write + Send)) -> Self {
        Self { format, writer }
    }

    /// The form that was asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Prints a line of text.
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.text(text)?;
        self.text("\n")
    }

    /// Prints text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.writer.write_all(text.as_bytes()).map_err(CliError::Output)
    }

    /// Where it prints to.
    pub fn writer(&mut self) -> &mut (dyn Write + Send) {
        self.writer
    }

    /// Makes everything printed visible.
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.writer.flush().map_err(CliError::Output)
    }

    /// Prints a value as JSON over several lines.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value);
        self.line(&text.map_err(|error| CliError::Output(io::Error::other(error)))?)
    }

    /// Prints a value as JSON in one line.
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value);
        self.line(&text.map_err(|error| CliError::Output(io::Error::other(error)))?)
    }

    /// Prints a table with headings.
    pub fn table<const COLUMNS: usize>(
        &mut self,
        headings: [&str; COLUMNS],
        rows: impl IntoIterator<Item = [String; COLUMNS]>,
    ) -> Result<(), CliError> {
        let mut table = plain_table();
        table.set_header(headings);
        rows.into_iter().for_each(|row| {
            table.add_row(row.map(|cell| visible(&cell)));
        });
        self.aligned(table)
    }

    /// Prints names with their values; what has no value is left out.
    pub fn facts(&mut self, facts: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Result<(), CliError> {
        let mut table = plain_table();
        for (name, value) in facts {
            if let Some(value) = value {
                table.add_row([name.to_owned(), visible(&value)]);
            }
        }
        self.aligned(table)
    }

    fn aligned(&mut self, mut table: Table) -> Result<(), CliError> {
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        self.line(&table.trim_fmt())
    }
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// Text without the control characters that could steer a terminal; line ends stay.
pub fn visible(text: &str) -> String {
    text.chars().map(|character| if character.is_control() && character != '\n' { '?' } else { character }).collect()
}

/// The text, or `-` for none.
pub fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".into())
}

/// `yes` or `no`.
pub fn yes_or_no(flag: bool) -> String {
    if flag { "yes".into() } else { "no".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_steers_no_terminal() {
        let mut printed = Vec::new();
        let mut output = Output::new(Format::Table, &mut printed);
        let rows = [["a".to_owned(), "1".to_owned()], ["\u{1b}[31mred".into(), "2".into()]];
        output.table(["Node", "Id"], rows).expect("it is written");
        assert_eq!(String::from_utf8(printed).expect("it is text"), "Node      Id\na         1\n?[31mred  2\n");
    }
}
