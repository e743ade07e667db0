#![allow(clippy::unwrap_used)]

use super::{Sender, mail_parts};
use crate::segment::Part;

fn part(body: &str, sender: Option<&str>, is_forward: bool, wanted: Part) -> String {
    let sender = sender.map(|name| Sender {
        name: Some(name),
        address: "a.lund@halden.example",
    });
    let ranges = mail_parts(body, sender, is_forward);
    let mut at = 0;
    for (range, _) in &ranges {
        assert_eq!(range.start, at, "a gap in {body:?}");
        at = range.end;
    }
    assert_eq!(at, body.len());
    let texts = ranges.into_iter().filter(|(_, part)| *part == wanted);
    texts
        .map(|(range, _)| body[range].trim().to_owned())
        .collect::<Vec<_>>()
        .join("|")
}

fn check(body: &str, new: &str, quoted: &str, signature: &str) {
    let sender = Some("Lund, Ana");
    assert_eq!(part(body, sender, false, Part::Body), new, "{body}");
    assert_eq!(part(body, sender, false, Part::Quoted), quoted, "{body}");
    assert_eq!(
        part(body, sender, false, Part::Signature),
        signature,
        "{body}"
    );
}

/// Goal: each way to quote and to sign, and prose that only looks like one.
#[test]
fn quotations_and_signatures() {
    check(
        "Hello\n\nOn Apr 3, 2012, at 4:19 PM, bob wrote:\n\n> Hi\n",
        "Hello",
        "On Apr 3, 2012, at 4:19 PM, bob wrote:\n\n> Hi",
        "",
    );
    check(
        "Hello\n> Hi\n> there\nand you?\n",
        "Hello|and you?",
        "> Hi\n> there",
        "",
    );
    check(
        "Ja.\n\nAm 03.04.2026 um 10:00 schrieb Bob Müller:\n> Hi\nDanke!\n",
        "Ja.|Danke!",
        "Am 03.04.2026 um 10:00 schrieb Bob Müller:\n> Hi",
        "",
    );
    check(
        "Yes.\n\nOn Mon, Apr 2, 2012 at 6:26 PM, Megan One\n<x@y.example> wrote:\n\nHi\nAll of it.\n",
        "Yes.",
        "On Mon, Apr 2, 2012 at 6:26 PM, Megan One\n<x@y.example> wrote:\n\nHi\nAll of it.",
        "",
    );
    check(
        "Hello\n\n-----Original Message-----\nFrom: bob\nHi\n",
        "Hello",
        "-----Original Message-----\nFrom: bob\nHi",
        "",
    );
    check(
        "Hello\n\nFrom: b@c.example\nSent: March-09-12 4:22 PM\nTo: Dan\nSubject: Loop\n\nHi\n",
        "Hello",
        "From: b@c.example\nSent: March-09-12 4:22 PM\nTo: Dan\nSubject: Loop\n\nHi",
        "",
    );
    check(
        "Hello\n\nBest regards,\nAna Lund\nHalden Freight\n+47 555 01 02\n\nOn 3 Apr 2026 Bob <b@c.example> wrote:\n> Hi\n",
        "Hello",
        "On 3 Apr 2026 Bob <b@c.example> wrote:\n> Hi",
        "Best regards,\nAna Lund\nHalden Freight\n+47 555 01 02",
    );
    check("Hello\n-- \nAna\nHalden\n", "Hello", "", "-- \nAna\nHalden");
    check("Hello\n\nAna\n", "Hello", "", "Ana");
    check(
        "Hello\n\nSent from my iPhone\n",
        "Hello",
        "",
        "Sent from my iPhone",
    );
    check(
        "Thanks Dan!\n\nDan J Hyvl\n04/19/2001 11:10 AM\nTo:\tKim Ward\ncc:\t\nSubject:\tSmurfit\n\nIt is done.\n",
        "Thanks Dan!",
        "Dan J Hyvl\n04/19/2001 11:10 AM\nTo:\tKim Ward\ncc:\t\nSubject:\tSmurfit\n\nIt is done.",
        "",
    );
    check(
        "Hello\n\nDr. Ana Lund\nHead of Sales\n",
        "Hello",
        "",
        "Dr. Ana Lund\nHead of Sales",
    );
    check(
        "Hello\n\n________\nlogo.png\nAna Lund\n\nwww.halden.example\n",
        "Hello",
        "",
        "________\nlogo.png\nAna Lund\n\nwww.halden.example",
    );
    check(
        "Hello\n\nYour team at Halden\nphone: 555 01 02\nmail: A.Lund@halden.example\n",
        "Hello",
        "",
        "Your team at Halden\nphone: 555 01 02\nmail: A.Lund@halden.example",
    );
    // Somebody else's address is what the mail says.
    check(
        "Please ask\n\nBob Dahl\nbob@halden.example\n+47 555 01 03\n",
        "Please ask\n\nBob Dahl\nbob@halden.example\n+47 555 01 03",
        "",
        "",
    );
    for said in [
        "Hi Bob\n\nWe accept all of it.\nSend the order to a.lund@halden.example",
        "Prices\n-----\nTotal: 4.000",
    ] {
        let (start, end) = (said, format!("{said}\nAna\n"));
        check(&format!("{start}\n"), said, "", "");
        check(&end, said, "", "Ana");
    }
    // Prose.
    check("She wrote:\nwe agree.\n", "She wrote:\nwe agree.", "", "");
    check(
        "From: now on we ship weekly.\nDone.\n",
        "From: now on we ship weekly.\nDone.",
        "",
        "",
    );
    check("Thanks\n", "Thanks", "", "");
    for said in [
        "Замечания к договору № 17 от 04.11.2026:\nСрок поставки.",
        "Please send order 20261104 to Ana <ana@halden.example>:\nten scales",
        "Date: 4 Nov 2026\nFrom: bob@halden.example\nSubject: Demo\nPlease call me.",
        "The trip:\nDate: 4 Nov\nFrom: Oslo\nTo: Bergen",
    ] {
        check(said, said, "", "");
    }
    check(
        "Ana asked for it.\n\nThanks for the long and detailed answer that you gave to all of us in that meeting.\n",
        "Ana asked for it.\n\nThanks for the long and detailed answer that you gave to all of us in that meeting.",
        "",
        "",
    );
    check("", "", "", "");
}

/// Goal: what is forwarded is what the mail is about.
#[test]
fn forwarded_messages() {
    let body = "See below.\n\n---------- Forwarded message ----------\nFrom: b@c.example\nDate: 3 Apr\nTo: Dan\n\nThe price is 15%.\n";
    assert!(part(body, None, true, Part::Body).contains("The price is 15%."));
    assert_eq!(part(body, None, true, Part::Quoted), "");
    let signed = "See below.\n-- \nBob\n\n---------- Forwarded message ----------\nFrom: b@c.example\n\nThe price is 15%.\n";
    assert!(part(signed, None, true, Part::Body).contains("The price is 15%."));
    assert_eq!(part(signed, None, true, Part::Signature), "-- \nBob");
    let ruled = format!(
        "Above\n--\n{}",
        "A line of prose below the rule.\n".repeat(20)
    );
    assert_eq!(part(&ruled, None, false, Part::Signature), "");
    for cited in [
        "FYI\n\nBegin forwarded message:\n\n> From: b@c.example\n> Date: 3 Apr\n> To: Dan\n>\n> The price is 15%.\n",
        "FYI\n\n> From: b@c.example\n> Date: 3 Apr\n> To: Dan\n>\n> The price is 15%.\n",
    ] {
        assert_eq!(part(cited, None, true, Part::Quoted), "", "{cited}");
    }
    let notes = "FYI\n------- Forwarded by Kim Ward on 04/19/2001 -------\nDan J Hyvl\n04/19/2001 11:10 AM\nTo: Kim\n\nIt is done.\n";
    assert!(part(notes, None, false, Part::Body).contains("It is done."));
}

/// Goal: a sender without a name signs with that of the address, and a department does not.
#[test]
fn names_in_addresses() {
    let signature = |address, body: &str| {
        let sender = Some(Sender {
            name: None,
            address,
        });
        let parts = mail_parts(body, sender, false);
        let signature = parts.iter().find(|(_, part)| *part == Part::Signature);
        signature.map(|(range, _)| body[range.clone()].to_owned())
    };
    assert_eq!(
        signature("ana.lund@halden.example", "Hello\nAna Lund\n"),
        Some("Ana Lund\n".to_owned())
    );
    assert_eq!(
        signature("sales@halden.example", "Hello\nSales\n12\n"),
        None
    );
}
