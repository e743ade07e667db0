//! The process that reads one document: from standard input to standard output, within limits of the system.

use std::io::{Read, Write};

use clap::Args;
use documents::{DocumentError, DocumentFormat, Limits};
use proto::limits::{DOCUMENT_BYTES_MAX, DOCUMENT_TEXT_BYTES_MAX};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Outcome, ProblemKind};

/// Memory of the process; a document of the largest size is in it a few times.
const MEMORY_BYTES_MAX: u64 = 2 << 30;
/// Seconds of computing.
const CPU_SECONDS_MAX: u64 = 60;

/// What is known of the document beside its content.
#[derive(Debug, Clone, Args)]
pub struct ReadDocumentArguments {
    /// Name of the file.
    file_name: String,
    /// Media type (RFC 6838), where one is known.
    media_type: Option<String>,
}

/// Reads the document; fails only where the outcome cannot be passed on.
pub fn run(arguments: &ReadDocumentArguments) -> anyhow::Result<()> {
    for (resource, limit) in [
        (Resource::As, MEMORY_BYTES_MAX),
        (Resource::Cpu, CPU_SECONDS_MAX),
        (Resource::Core, 0),
        // It writes no files.
        (Resource::Fsize, 0),
    ] {
        // What this process was started with may be less already.
        let limit = getrlimit(resource)
            .maximum
            .map_or(limit, |maximum| maximum.min(limit));
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        setrlimit(resource, limit)?;
    }
    let mut content = Vec::new();
    std::io::stdin()
        .take(DOCUMENT_BYTES_MAX + 1)
        .read_to_end(&mut content)?;
    let outcome = match read(arguments, &content) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Problem {
            kind: kind(&error),
            detail: error.to_string(),
        },
    };
    let json = serde_json::to_vec(&outcome)?;
    Ok(std::io::stdout().write_all(&json)?)
}

fn read(arguments: &ReadDocumentArguments, content: &[u8]) -> Result<Outcome, DocumentError> {
    let ReadDocumentArguments {
        file_name,
        media_type,
    } = arguments;
    let limits = Limits {
        // Above both no request gets here.
        file_bytes: DOCUMENT_BYTES_MAX as usize,
        text_bytes: DOCUMENT_TEXT_BYTES_MAX,
        ..Limits::default()
    };
    let format = DocumentFormat::detect(content, file_name, media_type.as_deref())?;
    let document = documents::read(content, format, &limits)?;
    Ok(Outcome::Text {
        format: format.name().to_owned(),
        media_type: format.media_type().to_owned(),
        title: document.title,
        markdown: document.markdown,
    })
}

fn kind(error: &DocumentError) -> ProblemKind {
    match error {
        DocumentError::Encrypted => ProblemKind::Encrypted,
        DocumentError::NoText => ProblemKind::NoText,
        DocumentError::Damaged { .. } => ProblemKind::Damaged,
        DocumentError::TooLarge { .. } => ProblemKind::TooLarge,
        DocumentError::UnknownFormat => ProblemKind::UnknownFormat,
    }
}
