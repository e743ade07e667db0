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
    /// Words that nobody says twice on purpose; "that that", "nous nous", "sie sie" and "was wahr ist, ist wahr" are said so.
    pub stuttered: &'static [&'static str],
}

/// That of an ISO 639-1 code; `None` where nobody wrote it down.
pub(super) fn speech(language: &str) -> Option<&'static Speech> {
    match language {
        "en" => Some(&ENGLISH),
        "de" => Some(&GERMAN),
        "fr" => Some(&FRENCH),
        "es" => Some(&SPANISH),
        "it" => Some(&ITALIAN),
        "pt" => Some(&PORTUGUESE),
        "nl" => Some(&DUTCH),
        _ => None,
    }
}

const ENGLISH: Speech = Speech {
    fillers: &[
        "um", "umm", "uh", "uhm", "uhh", "erm", "er", "hmm", "hm", "mm", "mhm", "mm-hmm", "uh-huh",
    ],
    stuttered: &[
        "i", "the", "a", "an", "we", "you", "it", "he", "she", "they", "and", "but", "or", "so",
        "to", "of", "in", "on", "at", "for", "with", "is", "are", "was", "were", "my", "our",
        "your", "their", "if", "this", "there", "it's", "i'm", "we're", "what", "when", "can",
    ],
};

const GERMAN: Speech = Speech {
    fillers: &["äh", "ähm", "ähh", "ähem", "öh", "öhm", "hm", "hmm", "mhm"],
    stuttered: &[
        "ich", "wir", "er", "und", "aber", "oder", "ein", "eine", "einen", "im", "am", "mit",
        "für", "von", "wenn", "dass", "mein", "unser",
    ],
};

const FRENCH: Speech = Speech {
    fillers: &["euh", "heu", "hum", "hm", "hmm", "mhm", "mmh"],
    stuttered: &[
        "je", "j'ai", "il", "elle", "on", "le", "la", "les", "un", "une", "et", "mais", "ou", "de",
        "des", "du", "à", "dans", "avec", "pour", "c'est", "si",
    ],
};

const SPANISH: Speech = Speech {
    fillers: &["eh", "ehh", "em", "ehm", "hm", "hmm", "mmm", "mhm"],
    stuttered: &[
        "yo", "el", "la", "los", "las", "un", "una", "y", "pero", "o", "de", "del", "en", "con",
        "por", "para", "mi", "nuestro", "si",
    ],
};

const ITALIAN: Speech = Speech {
    fillers: &["ehm", "eh", "uhm", "hm", "hmm", "mmm", "mhm"],
    stuttered: &[
        "io", "noi", "il", "la", "i", "le", "un", "una", "e", "ma", "o", "di", "del", "in", "con",
        "per", "mio", "nostro", "se",
    ],
};

const PORTUGUESE: Speech = Speech {
    fillers: &["hum", "ahn", "hã", "hm", "hmm", "mmm", "mhm", "uhm"],
    stuttered: &[
        "eu", "nós", "o", "os", "as", "um", "uma", "e", "mas", "ou", "de", "do", "da", "em", "com",
        "por", "para", "meu", "nosso", "se",
    ],
};

const DUTCH: Speech = Speech {
    fillers: &["eh", "ehm", "euh", "uh", "uhm", "hm", "hmm", "mm", "mhm"],
    stuttered: &[
        "ik", "wij", "we", "de", "een", "en", "maar", "of", "van", "in", "op", "met", "voor",
        "mijn", "onze", "als",
    ],
};
