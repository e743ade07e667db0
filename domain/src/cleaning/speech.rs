//! What speakers of each language say without meaning it.

/// Marks that transcribers put in brackets, in any language, in lower case.
pub(super) const MARKS: [&str; 61] = [
    "applaudissements",
    "applaus",
    "applause",
    "applausi",
    "aplausos",
    "background noise",
    "blank_audio",
    "chuckles",
    "coughs",
    "cross-talk",
    "crosstalk",
    "disfmarker",
    "foreign",
    "gap",
    "gelach",
    "gelächter",
    "husten",
    "hustet",
    "inaudible",
    "inaudível",
    "incomprensibile",
    "incompréhensible",
    "ininteligible",
    "ininteligível",
    "inintelligible",
    "lachen",
    "lacht",
    "laughing",
    "laughs",
    "laughter",
    "music",
    "musica",
    "musik",
    "musique",
    "muziek",
    "música",
    "no audio",
    "noise",
    "nonvocalsound",
    "onverstaanbaar",
    "pause",
    "pronounciation",
    "rire",
    "rires",
    "risas",
    "risate",
    "risos",
    "seufzt",
    "sighs",
    "silence",
    "silencio",
    "silenzio",
    "silêncio",
    "soupir",
    "stille",
    "stilte",
    "suspiro",
    "toux",
    "unintelligible",
    "unverständlich",
    "vocalsound",
];

/// Sounds and repetitions of one language.
pub(super) struct Speech {
    /// Sounds that are no word of this language; "um" is a word of German and Portuguese.
    pub fillers: &'static [&'static str],
    /// Words that are hardly ever meant when they come twice; "that that", "nous nous" and "log in in" are.
    pub stuttered: &'static [&'static str],
    /// Whether a comma may stand between: in other languages it mostly ends a clause.
    pub over_commas: bool,
}

/// That of an ISO 639-1 code; `None` where nobody wrote it down.
pub(super) fn speech(language: &str) -> Option<&'static Speech> {
    LANGUAGES
        .iter()
        .find(|(code, _)| *code == language)
        .map(|(_, speech)| speech)
}

pub(super) const LANGUAGES: [(&str, Speech); 7] = [
    (
        "en",
        Speech {
            fillers: &[
                "um", "umm", "uh", "uhm", "uhh", "erm", "er", "hmm", "hm", "mm", "mhm", "mm-hmm",
                "uh-huh",
            ],
            stuttered: &[
                "i", "the", "a", "an", "we", "it", "he", "she", "they", "and", "but", "or", "so",
                "to", "of", "at", "for", "with", "are", "was", "were", "my", "our", "your",
                "their", "if", "this", "there", "it's", "i'm", "we're", "what", "when", "can",
            ],
            over_commas: true,
        },
    ),
    (
        "de",
        Speech {
            fillers: &["äh", "ähm", "ähh", "ähem", "öh", "öhm", "hm", "hmm", "mhm"],
            stuttered: &[
                "ich", "wir", "er", "aber", "oder", "wenn", "dass", "mein", "unser",
            ],
            over_commas: false,
        },
    ),
    (
        "fr",
        Speech {
            fillers: &["euh", "heu", "hum", "hm", "hmm", "mhm", "mmh"],
            stuttered: &[
                "je", "j'ai", "il", "elle", "on", "le", "la", "les", "une", "et", "mais", "ou",
                "de", "des", "du", "à", "dans", "avec", "pour", "c'est",
            ],
            over_commas: false,
        },
    ),
    (
        "es",
        Speech {
            fillers: &["eh", "ehh", "em", "ehm", "hm", "hmm", "mmm", "mhm"],
            stuttered: &[
                "yo", "el", "la", "los", "las", "y", "pero", "o", "de", "del", "en", "con", "por",
                "mi", "nuestro",
            ],
            over_commas: false,
        },
    ),
    (
        "it",
        Speech {
            fillers: &["ehm", "eh", "uhm", "hm", "hmm", "mmm", "mhm"],
            stuttered: &[
                "io", "noi", "il", "la", "i", "le", "ma", "o", "di", "del", "con", "per", "mio",
                "nostro",
            ],
            over_commas: false,
        },
    ),
    (
        "pt",
        Speech {
            fillers: &["hum", "ahn", "hã", "hm", "hmm", "mmm", "mhm", "uhm"],
            stuttered: &[
                "eu", "nós", "os", "as", "e", "mas", "ou", "de", "do", "da", "em", "com", "meu",
                "nosso",
            ],
            over_commas: false,
        },
    ),
    (
        "nl",
        Speech {
            fillers: &["eh", "ehm", "euh", "uh", "uhm", "hm", "hmm", "mhm"],
            stuttered: &[
                "ik", "wij", "we", "de", "maar", "of", "van", "met", "mijn", "onze",
            ],
            over_commas: false,
        },
    ),
];
