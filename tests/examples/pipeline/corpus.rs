//! Texts: real meetings where they lie beside the checkout, else made up ones.

use std::fs;
use std::path::Path;

use tests::config::shared_data;
use tests::meetings::turn_lines;

/// Calls of about an hour, `Speaker: text` lines.
pub fn calls() -> Vec<String> {
    match shared_data("the real meetings", "qmsum") {
        Some(dir) => meetings(&dir.join("train")),
        None => (0..36).map(made_up_call).collect(),
    }
}

/// Short mails, as RFC 5322 messages.
pub fn mail(number: usize) -> String {
    format!(
        "From: Ana Lund <ana@halden.example>\r\nTo: ben@supplier.example\r\nSubject: Pilot at plant {number}\r\n\
         Message-ID: <{number}@halden.example>\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n\r\n\
         Hello Ben,\r\n\r\nThe pilot at plant {number} lost {} hours last week because the scanner order is late. \
         Legal asks for the data processing terms before we sign, and the budget for the first quarter is frozen \
         until the board meets.\r\n\r\nCould you send the revised price list and a date for the training?\r\n\r\n\
         Ana\r\n",
        number % 40
    )
}

fn meetings(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("list the meetings");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a meeting").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| turn_lines(path).join("\n") + "\n")
        .collect()
}

fn made_up_call(number: usize) -> String {
    (0..700)
        .map(|line| {
            let speaker = if line / 4 % 2 == 0 { "Ana" } else { "Ben" };
            format!(
                "{speaker}: Remark {line} of call {number} is about step {} of the plan.\n",
                line * 7 % 90
            )
        })
        .collect()
}
