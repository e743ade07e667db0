//! BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) with weighted fields (BM25F): the
//! frequencies of a term in a document's fields are added with weights before they are saturated.

/// What a frequency counts in: a posting has one byte for it, and fields have weights such as 1.5.
pub const FREQUENCY_UNIT: f32 = 0.5;

/// How fast a term's repetition is saturated (k1), and how much long documents are held back (b).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// At least 0.
    pub k1: f32,
    /// 0 to 1.
    pub b: f32,
}

impl Default for Parameters {
    /// Lucene's.
    fn default() -> Self {
        Self { k1: 1.2, b: 0.75 }
    }
}

/// All documents, for what is usual among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collection {
    pub documents: u64,
    /// Sum of their lengths.
    pub length: u64,
}

/// k1 · (1 − b + b · length / mean length), for each length that a posting can have.
pub struct Norms([f32; 256]);

impl Norms {
    pub fn new(parameters: Parameters, collection: Collection) -> Self {
        let mean = match collection.length {
            0 => 1.0,
            length => length as f32 / collection.documents as f32,
        };
        let Parameters { k1, b } = parameters;
        let mut norms = [0.0; 256];
        for (length, norm) in (0_u8..=255).zip(&mut norms) {
            *norm = k1 * (1.0 - b + b * f32::from(length) / mean);
        }
        Self(norms)
    }

    /// The impact of a term in a document, 0 to 1, to be multiplied with its weight.
    #[inline]
    pub fn impact(&self, frequency: u8, length: u8) -> f32 {
        let frequency = f32::from(frequency) * FREQUENCY_UNIT;
        frequency / (frequency + self.0[usize::from(length)])
    }
}

/// How much a term says that so many documents have (as in Lucene: never negative).
pub fn idf(collection: Collection, document_frequency: u64) -> f32 {
    let (all, with) = (
        collection.documents.max(document_frequency) as f32,
        document_frequency as f32,
    );
    (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
}
