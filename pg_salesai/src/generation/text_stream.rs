//! A text that is read while the model writes it.

use proto::model::GenerationRequest;

use super::address::Address;
use super::batch::{Draft, ROUNDS_MAX};
use crate::adapters::registry;
use crate::error::Error;
use crate::sidecar::{Deadline, OpenStream};

pub struct TextStream {
    events: OpenStream,
    /// What came so far.
    draft: Draft,
}

impl TextStream {
    /// Begins a generation, for which the deadline is as a whole; a sidecar that lacks the adapter is sent it first.
    pub fn open(request: &GenerationRequest, deadline: Deadline) -> Result<Self, Error> {
        for _ in 0..ROUNDS_MAX {
            let address = Address::of(request)?;
            match (
                Self::begin(address.put_on(request.clone()), deadline),
                &address.adapter,
            ) {
                (Err(Error::Sidecar(error)), Some(adapter)) if address.lacks_adapter(&error) => {
                    registry::load(&adapter.name, deadline)?;
                }
                (stream, _) => return stream,
            }
        }
        let name = request.adapter.as_ref().map(|adapter| adapter.name.clone());
        Err(Error::AdapterUnsettled {
            name: name.unwrap_or_default(),
        })
    }

    /// Refusals come before the first event or in its place.
    fn begin(request: GenerationRequest, deadline: Deadline) -> Result<Self, Error> {
        let mut stream = Self {
            events: OpenStream::open(request, deadline)?,
            draft: Draft::default(),
        };
        if let Some(event) = stream.events.next()? {
            stream.draft.take(event);
        }
        Ok(stream)
    }

    /// The next piece, or None when the text is finished.
    pub fn next_piece(&mut self) -> Result<Option<String>, Error> {
        while let Some(event) = self.events.next()? {
            let before = self.draft.text.len();
            self.draft.take(event);
            if self.draft.text.len() > before {
                return Ok(Some(self.draft.text[before..].to_owned()));
            }
        }
        Ok(None)
    }

    pub fn draft(&self) -> &Draft {
        &self.draft
    }
}
