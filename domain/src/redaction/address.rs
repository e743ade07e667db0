//! Street addresses: a number and a street by its usual words, flats, boxes and military addresses.

use std::sync::LazyLock;

use regex::Regex;

use super::{Finding, PiiKind, add};

static PATTERNS: LazyLock<[Regex; 5]> = LazyLock::new(|| {
    [
        // 24 Clarke Avenue; 1600 Pennsylvania Ave NW, Suite 12, Washington, DC 20500
        concat!(
            r"\b[0-9]{1,5}[A-Za-z]?,? (?:[NSEW]\.? )?(?:[\p{Lu}0-9][\p{L}\p{N}'.-]*,? ){1,4}",
            r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|",
            r"Ter|Parkway|Pkwy|Highway|Hwy|Way|Crescent|Cres|Close|Circle|Cir|Alley|Row|Mews|Quay|Trail)\b\.?",
            r"(?:,? (?:NE|NW|SE|SW|N|S|E|W))?(?:,? (?:Suite|Ste|Apt|Apartment|Unit|Floor|#)\.? ?[\w-]+)?",
            r"(?:,? [\p{Lu}][\p{L}.' -]+,? [A-Z]{2} [0-9]{5}(?:-[0-9]{4})?)?"
        ),
        // Hauptstraße 5; Friedhofstrasse 33; Gesterbyntie 68; rue de Rivoli 12
        concat!(
            r"\b\p{Lu}[\p{L}-]{2,}(?:stra(?:ß|ss)e|str\.|gasse|weg|platz|allee|ring|damm|ufer|straat|laan|weg|plein|",
            r"gatan|vägen|gata|vej|gade|katu|tie|utca|ulica|tér|út) ?[0-9]{1,5} ?[A-Za-z]?\b"
        ),
        r"(?i)\b(?:rue|avenue|boulevard|place|allée|via|viale|piazza|corso|calle|avenida|plaza|paseo|rua|ulica|ul\.) (?:d(?:e|el|u|es|elle|i|a|o)?(?:'| )?(?:la |l')?)?\p{L}[\p{L}' -]{2,40}?,? [0-9]{1,5}\b",
        r"(?i)\b(?:P\.? ?O\.? Box|Postfach|PSC [0-9]+, Box|Apt\.?|Apartment|Suite|Unit) ?#?[0-9]{1,6}(?:[ \n]+(?:APO|FPO|DPO) [A-Z]{2} [0-9]{5})?\b",
        // 12 rue de Rivoli
        r"(?i)\b[0-9]{1,5}(?: ?(?:bis|ter))?,? (?:rue|avenue|boulevard|place|allée|via|viale|calle|rua) (?:d(?:e|el|u|es|elle|i|a|o)?(?:'| )?(?:la |l')?)?\p{Lu}[\p{L}' -]{2,30}\b",
    ]
    .map(|pattern| Regex::new(pattern).expect("is a pattern"))
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    for pattern in PATTERNS.iter() {
        let addresses = pattern.find_iter(text).map(|address| address.range());
        add(found, PiiKind::Address, addresses);
    }
}
