//! Goal: a document comes back as Markdown or with its problem, whatever it is, and the server lives on.

use proto::client::ClientError;
use proto::limits::{DOCUMENT_BYTES_MAX, DOCUMENT_PART_BYTES, FILE_NAME_BYTES_MAX};
use proto::model::DocumentHeader;
use proto::wire::read_document_request::Part;
use proto::wire::{self, DocumentProblem, ReadDocumentResponse};
use tonic::Code;

use super::sidecar::{self, PATIENCE, Sidecar};

async fn read(
    sidecar: &Sidecar,
    name: &str,
    content: Vec<u8>,
) -> Result<ReadDocumentResponse, ClientError> {
    let header = DocumentHeader {
        file_name: name.to_owned(),
        media_type: String::new(),
    };
    let mut client = sidecar.client().await;
    client.read_document(header, content, PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_read() {
    let Some(model) = sidecar::embedding_model("documents_are_read") else {
        return;
    };
    let sidecar = Sidecar::with_embedding(&model, &[]).await;
    let page = b"<h1>Offer</h1><p>Ninety days, <b>net</b>.</p>".to_vec();
    let answer = read(&sidecar, "offer.html", page).await.unwrap();
    assert_eq!(answer.markdown, "# Offer\n\nNinety days, **net**.\n");
    assert_eq!(
        (answer.format.as_str(), answer.title.as_str()),
        ("html", "Offer")
    );
    assert_eq!(answer.media_type, "text/html");
    assert_eq!(answer.problem(), DocumentProblem::Unspecified);
    // Several parts, and several readers at once.
    let long = "word ".repeat(DOCUMENT_PART_BYTES);
    let both = tokio::join!(
        read(&sidecar, "a.txt", long.clone().into_bytes()),
        read(&sidecar, "b.csv", b"a;b\n1;2\n".to_vec()),
    );
    assert_eq!(both.0.unwrap().markdown, long);
    assert_eq!(
        both.1.unwrap().markdown,
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    );
    for (name, content, problem) in [
        (
            "-rf",
            b"\0\x01\x02".as_slice(),
            DocumentProblem::UnknownFormat,
        ),
        ("a.docx", b"PK\x03\x04cut", DocumentProblem::Damaged),
        ("a.pdf", b"%PDF-1.7 and nothing", DocumentProblem::Damaged),
        ("a.txt", b" \n ", DocumentProblem::NoText),
        (
            "deep.html",
            "<div>".repeat(10_000).as_bytes(),
            DocumentProblem::TooLarge,
        ),
        (
            "long.txt",
            "x".repeat(13 << 20).as_bytes(),
            DocumentProblem::TooLarge,
        ),
    ] {
        let answer = read(&sidecar, name, content.to_vec()).await.unwrap();
        assert_eq!(
            answer.problem(),
            problem,
            "{name}: {}",
            answer.problem_detail
        );
        assert!(answer.markdown.is_empty() && !answer.problem_detail.is_empty());
    }
    assert!(!sidecar.log().contains("Ninety"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_bound_is_refused() {
    let Some(model) = sidecar::embedding_model("what_breaks_a_bound_is_refused") else {
        return;
    };
    let sidecar = Sidecar::with_embedding(&model, &[]).await;
    let content = vec![b'x'; DOCUMENT_BYTES_MAX as usize + 1];
    for refused in [
        read(&sidecar, "a.txt", content).await,
        read(&sidecar, &"x".repeat(FILE_NAME_BYTES_MAX + 1), vec![b'x']).await,
        read(&sidecar, "a\0b", vec![b'x']).await,
    ] {
        assert!(
            matches!(refused, Err(ClientError::InvalidRequest(_))),
            "{refused:?}"
        );
    }
    let header = Part::Header(wire::DocumentHeader::default());
    let content = Part::Content(vec![b'x']);
    for parts in [
        vec![],
        vec![content.clone()],
        vec![header.clone(), content, header],
    ] {
        let messages = parts
            .into_iter()
            .map(|part| wire::ReadDocumentRequest { part: Some(part) });
        let mut client = sidecar.raw_client().await;
        let refused = client.read_document(tokio_stream::iter(messages)).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
}
