//! Goal: each kind is found with its borders, look-alikes are left, and places in redacted texts lead back to
//! the original.

use super::*;

/// `marked` has what is to be found in braces.
fn check(kind: PiiKind, marked: &str) {
    let text = marked.replace(['⟦', '⟧'], "");
    let found: Vec<&str> = find_pii(&text, [kind].into_iter().collect(), &names())
        .into_iter()
        .map(|finding| &text[finding.bytes])
        .collect();
    let expected: Vec<&str> = marked
        .split('⟦')
        .skip(1)
        .map(|rest| rest.split('⟧').next().unwrap())
        .collect();
    assert_eq!(found, expected, "{kind:?} in {text:?}");
}

fn names() -> KnownNames {
    KnownNames::new(["Dana Wills", "José Ángel Pérez", "Will"])
}

#[test]
fn kinds_are_found_with_their_borders() {
    use PiiKind::*;
    for (kind, marked) in [
        (Email, "write to ⟦dana.wills+sales@example.co.uk⟧, please."),
        (Email, "<⟦o'neil@acme.com⟧>; a@b is none"),
        (IpAddress, "from ⟦10.0.0.17⟧ and ⟦2001:db8::8a2e:370:7334⟧."),
        (
            IpAddress,
            "version 1.2.3.4.5, 300.1.1.1, at 12:30:45, std::vec",
        ),
        (
            UrlCredentials,
            "https://⟦admin:s3cret⟧@db.example.com/x?token=⟦abc123⟧&page=2",
        ),
        (Card, "card ⟦4111 1111 1111 1111⟧, not 4111 1111 1111 1112"),
        (Card, "amex ⟦378282246310005⟧ order 1234567890123"),
        (
            Card,
            "⟦4111 1111 1111 1111⟧ 12/27, order 1234 ⟦4111-1111-1111-1111⟧ 123",
        ),
        (NationalId, "١٢٣٤٥٦٧٨Z, 850101-١٢٣٤ and １２３４５６７８Z"),
        (Iban, "to ⟦GB29 NWBK 6016 1331 9268 19⟧ or the other"),
        (Iban, "⟦DE89370400440532013000⟧, DE89370400440532013001"),
        (NationalId, "SSN ⟦078-05-1120⟧, part 900-11-2222"),
        (NationalId, "passport number is ⟦C01X00T47⟧"),
        (NationalId, "DNI ⟦12345678Z⟧ and 12345678A"),
        (NationalId, "hetu ⟦131052-308T⟧"),
        (NationalId, "NI ⟦AB 12 34 56 C⟧"),
        (BirthDate, "She was born on ⟦10/23/1951⟧. Signed 10/23/2020"),
        (BirthDate, "DOB: ⟦March 3, 1980⟧"),
        (Phone, "call ⟦+1 (415) 555-0132 x12⟧ or ⟦(020) 7946 0958⟧"),
        (Phone, "on 2020-06-20 14:11:22 for $1,200,000 and 3 to 4"),
        (Phone, "Fax ⟦0490 39 07 81⟧; 2019-2020"),
        (Address, "lives at ⟦24 Clarke Avenue⟧ now"),
        (Address, "⟦1600 Pennsylvania Ave NW, Washington, DC 20500⟧"),
        (Address, "in der ⟦Friedhofstrasse 33⟧, 10 people"),
        (
            Name,
            "⟦Dana Wills⟧ asked; ⟦Wills⟧ will answer, said ⟦José Ángel Pérez⟧",
        ),
        (Name, "⟦Will⟧ will mark William"),
    ] {
        check(kind, marked);
    }
}

#[test]
fn the_surer_kind_wins() {
    let text = "mail bob@10.0.0.1.example.com, card 4111-1111-1111-1111";
    let found = find_pii(text, KindSet::all(), &KnownNames::default());
    let kinds: Vec<PiiKind> = found.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [PiiKind::Email, PiiKind::Card]);
    // A kind that may stay is not taken for another one.
    let others = PiiKind::ALL
        .into_iter()
        .filter(|kind| *kind != PiiKind::Card);
    let found = find_pii(text, others.collect(), &KnownNames::default());
    assert_eq!(found.len(), 1);
}

#[test]
fn a_kind_that_may_stay_leaves_the_rest() {
    let only = |kind: PiiKind, text: &str| -> Vec<String> {
        let found = find_pii(text, [kind].into_iter().collect(), &KnownNames::default());
        found
            .into_iter()
            .map(|f| text[f.bytes].to_owned())
            .collect()
    };
    assert_eq!(
        only(PiiKind::Email, "https://bob@example.com/"),
        ["bob@example.com"]
    );
    assert!(only(PiiKind::Phone, "card 4111 1111 1111 1111").is_empty());
}

#[test]
fn places_lead_back_to_the_original() {
    let text = "Grüße an ä.b@example.com — oder +49 30 901820, Ende";
    let redacted = redact(
        text,
        &find_pii(text, KindSet::all(), &KnownNames::default()),
    );
    assert_eq!(redacted.text, "Grüße an [email] — oder [phone], Ende");
    let chars = |text: &str, range: Range<u32>| -> String {
        let (start, end) = (range.start as usize, range.end as usize);
        text.chars().skip(start).take(end - start).collect()
    };
    let place = |part: &str| {
        let start = redacted.text.find(part).unwrap();
        let start = redacted.text[..start].chars().count() as u32;
        start..start + part.chars().count() as u32
    };
    for (part, original) in [
        ("Grüße", "Grüße"),
        ("an [em", "an ä.b@example.com"),
        ("[email]", "ä.b@example.com"),
        ("— oder", "— oder"),
        ("one], Ende", "+49 30 901820, Ende"),
        (", Ende", ", Ende"),
    ] {
        let range = redacted.map.to_original(place(part));
        assert_eq!(chars(text, range), original, "{part}");
    }
    let all = redacted
        .map
        .to_original(0..redacted.text.chars().count() as u32);
    assert_eq!(chars(text, all), text);
}

#[test]
fn policies_name_kinds() {
    for kind in PiiKind::ALL {
        assert_eq!(PiiKind::from_name(kind.name()), Some(kind));
    }
    assert_eq!(PiiKind::from_name("email"), Some(PiiKind::Email));
    assert_eq!(PiiKind::from_name("[email]"), None);
}
