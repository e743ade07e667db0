//! What a PDF names within itself: parents of pages (ISO 32000-1, 7.7.3.4), and forms that content draws (8.10). Both
//! may go round in circles, which the library follows until there is no stack left.

use pdf_extract::content::Content;
use pdf_extract::{Dictionary, Document, Object, ObjectId, Stream};

use crate::DocumentError;

const PARENTS_MAX: usize = 64;
const FORM_DEPTH_MAX: usize = 28;
/// Forms that are drawn while one page is: each may draw others many times.
const FORMS_MAX: usize = 20_000;

/// Fails where reading the page would not end.
pub fn check(document: &Document, page: ObjectId) -> Result<(), DocumentError> {
    let damaged = |_| DocumentError::damaged("a page cannot be found");
    let mut dictionary = document.get_dictionary(page).map_err(damaged)?;
    let mut resources = None;
    for _ in 0..PARENTS_MAX {
        resources = resources.or_else(|| dictionary_at(document, dictionary, b"Resources"));
        let Ok(parent) = dictionary.get(b"Parent").and_then(Object::as_reference) else {
            let mut forms = Forms {
                document,
                left: FORMS_MAX,
            };
            return match resources {
                Some(resources) if resources.has(b"XObject") => {
                    let content = document.get_page_content(page).map_err(damaged)?;
                    forms.draw(&content, resources, 0)
                }
                _ => Ok(()),
            };
        };
        match document.get_dictionary(parent) {
            Ok(parent) => dictionary = parent,
            Err(_) => return Ok(()),
        }
    }
    Err(DocumentError::damaged("the parents of a page have no end"))
}

struct Forms<'a> {
    document: &'a Document,
    left: usize,
}

impl<'a> Forms<'a> {
    /// Goes through all that `content` draws, as the library does.
    fn draw(
        &mut self,
        content: &[u8],
        resources: &'a Dictionary,
        depth: usize,
    ) -> Result<(), DocumentError> {
        if depth > FORM_DEPTH_MAX {
            return Err(DocumentError::damaged("its forms draw each other"));
        }
        let Ok(content) = Content::decode(content) else {
            return Ok(());
        };
        for operation in content.operations {
            if operation.operator != "Do" {
                continue;
            }
            let name = operation
                .operands
                .first()
                .and_then(|name| name.as_name().ok());
            let Some(form) = name.and_then(|name| self.form(resources, name)) else {
                continue;
            };
            self.left = self.left.checked_sub(1).ok_or(DocumentError::TooLarge {
                what: "forms on a page",
                limit: FORMS_MAX,
            })?;
            let own = dictionary_at(self.document, &form.dict, b"Resources");
            let bytes = form
                .decompressed_content()
                .unwrap_or_else(|_| form.content.clone());
            self.draw(&bytes, own.unwrap_or(resources), depth + 1)?;
        }
        Ok(())
    }

    fn form(&self, resources: &'a Dictionary, name: &[u8]) -> Option<&'a Stream> {
        let forms = dictionary_at(self.document, resources, b"XObject")?;
        let (_, form) = self.document.dereference(forms.get(name).ok()?).ok()?;
        form.as_stream().ok()
    }
}

fn dictionary_at<'a>(
    document: &'a Document,
    dictionary: &'a Dictionary,
    key: &[u8],
) -> Option<&'a Dictionary> {
    let (_, object) = document.dereference(dictionary.get(key).ok()?).ok()?;
    object.as_dict().ok()
}
