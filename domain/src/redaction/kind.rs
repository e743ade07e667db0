//! The kinds of personal data that rules tell apart.

/// A kind of personal data; the surer its rule, the earlier it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PiiKind {
    UrlCredentials,
    Email,
    Iban,
    Card,
    NationalId,
    IpAddress,
    BirthDate,
    Phone,
    Address,
    Name,
}

impl PiiKind {
    pub const ALL: [Self; 10] = [
        Self::UrlCredentials,
        Self::Email,
        Self::Iban,
        Self::Card,
        Self::NationalId,
        Self::IpAddress,
        Self::BirthDate,
        Self::Phone,
        Self::Address,
        Self::Name,
    ];

    /// Its name in policies.
    pub fn name(self) -> &'static str {
        self.label().trim_matches(['[', ']'])
    }

    /// What stands in its place in a redacted text.
    pub fn label(self) -> &'static str {
        match self {
            Self::UrlCredentials => "[url_credentials]",
            Self::Email => "[email]",
            Self::Iban => "[iban]",
            Self::Card => "[card]",
            Self::NationalId => "[national_id]",
            Self::IpAddress => "[ip_address]",
            Self::BirthDate => "[birth_date]",
            Self::Phone => "[phone]",
            Self::Address => "[address]",
            Self::Name => "[name]",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Some of the kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindSet(u16);

impl KindSet {
    pub fn all() -> Self {
        PiiKind::ALL.into_iter().collect()
    }

    pub fn contains(self, kind: PiiKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    fn bit(kind: PiiKind) -> u16 {
        1 << kind as u16
    }
}

impl FromIterator<PiiKind> for KindSet {
    fn from_iter<I: IntoIterator<Item = PiiKind>>(kinds: I) -> Self {
        Self(
            kinds
                .into_iter()
                .fold(0, |bits, kind| bits | Self::bit(kind)),
        )
    }
}
