//! Reads the tokenizer files of a Hugging Face directory: byte-pair vocabularies, byte-level as
//! Llama 3's or with spaces and bytes spelled as Llama 2's.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde::Deserialize;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::Error;
use crate::file_bytes::read_at_most;
use crate::json_file::{read_json, read_json_if_present};
use crate::text::chat_tokenizer::ChatParts;
use crate::text::text_tokenizer::Encoder;
use crate::text::vocabulary::{BytePairs, ENTRIES_MAX, Vocabulary};
use crate::text::{byte_level, sentence_pieces};

const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

/// `tokenizer.json`
#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<AddedEntry>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    decoder: Option<DecoderWrapper>,
    model: ModelFile,
}

#[derive(Deserialize)]
struct AddedEntry {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

#[derive(Deserialize)]
struct ModelFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Vec<MergeEntry>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// Older files write a pair as one text.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeEntry {
    Pair(String, String),
    Text(String),
}

/// `tokenizer_config.json`
#[derive(Deserialize)]
struct TokenizerConfig {
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    add_bos_token: Option<bool>,
    chat_template: Option<TemplateText>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenText {
    Text(String),
    Token { content: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TemplateText {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// `generation_config.json`, and as much of `config.json`
#[derive(Deserialize)]
struct EndConfig {
    eos_token_id: Option<EndIds>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EndIds {
    One(u32),
    Many(Vec<u32>),
}

/// Vocabulary, special tokens and template of the model in `directory`.
pub(super) fn read(directory: &Path) -> Result<ChatParts, Error> {
    let path = directory.join("tokenizer.json");
    let refuse = |reason: String| Error::model_file(&path, reason);
    let file: TokenizerFile = read_json(&path)?;
    let config: TokenizerConfig = read_json(&directory.join("tokenizer_config.json"))?;
    let template = read_template(directory, config.chat_template)?;

    let frame = file.post_processor.clone();
    let ids = ids(&file);
    let id_of = |token: Option<TokenText>| match token.map(TokenText::into_text) {
        None => Ok(None),
        Some(text) => match ids.get(&text) {
            Some(&id) => Ok(Some((text, id))),
            None => Err(refuse(format!("it does not know its own token \"{text}\""))),
        },
    };
    let bos = id_of(config.bos_token)?;
    let eos = id_of(config.eos_token)?;
    let framing = bos.iter().chain(&eos).cloned().collect();
    let vocabulary = read_vocabulary(file, framing).map_err(refuse)?;

    let mut ends = read_ends(directory)?;
    if let Some((_, id)) = &eos {
        ends.insert(0, *id);
    }
    let adds_bos = match (config.add_bos_token, &bos) {
        (_, None) => false,
        (Some(adds_bos), _) => adds_bos,
        (None, Some((_, id))) => frame_begins_with(frame, &vocabulary.plain, *id)?,
    };
    Ok(ChatParts {
        path,
        vocabulary,
        adds_bos,
        bos,
        eos: eos.map_or(String::new(), |(text, _)| text),
        ends,
        template,
    })
}

/// Every spelling of the file with its id; added tokens win, as they do in the library.
fn ids(file: &TokenizerFile) -> HashMap<String, u32> {
    let mut ids = file.model.vocab.clone();
    ids.extend(
        file.added_tokens
            .iter()
            .map(|added| (added.token.content.clone(), added.id)),
    );
    ids
}

/// `framing` are tokens that frame texts, whether the file calls them special or not.
fn read_vocabulary(file: TokenizerFile, framing: Vec<(String, u32)>) -> Result<Vocabulary, String> {
    let TokenizerFile {
        added_tokens,
        normalizer,
        pre_tokenizer,
        decoder,
        model,
        ..
    } = file;
    check_model(&model)?;
    let is_byte_level = decoder.as_ref().is_some_and(is_byte_level);
    if !is_byte_level && !model.byte_fallback {
        return Err(
            "only byte-level vocabularies and such with byte fallback are supported".into(),
        );
    }
    let (special, added): (Vec<_>, Vec<_>) = added_tokens
        .into_iter()
        .partition(|added| added.token.special || framing.iter().any(|(_, id)| *id == added.id));
    let mut control: Vec<_> = special
        .into_iter()
        .map(|added| (added.token.content, added.id))
        .collect();
    control.extend(framing);
    control.sort();
    control.dedup();

    let control_ids: BTreeSet<u32> = control.iter().map(|&(_, id)| id).collect();
    let mut entries = model.vocab;
    entries.retain(|_, id| !control_ids.contains(id));
    let spell = |text: &str| match is_byte_level {
        true => byte_level::bytes_of(text),
        false => match sentence_pieces::byte_of(text) {
            Some(byte) => Box::new([byte]),
            None => sentence_pieces::bytes_of(text),
        },
    };
    let mut bytes = Vec::new();
    for (text, id) in &entries {
        set_bytes(&mut bytes, *id, spell(text))?;
    }
    for added in &added {
        set_bytes(&mut bytes, added.id, added.token.content.as_bytes().into())?;
        entries.insert(added.token.content.clone(), added.id);
    }
    for (_, id) in &control {
        set_bytes(&mut bytes, *id, Box::default())?;
    }

    let merges: Option<_> = model
        .merges
        .into_iter()
        .map(MergeEntry::into_pair)
        .collect();
    let pairs = BytePairs {
        entries: entries.into_iter().collect(),
        merges: merges.ok_or("a merge is no pair")?,
        ignores_merges: model.ignore_merges,
        has_byte_fallback: model.byte_fallback,
        added: added.into_iter().map(|added| added.token).collect(),
        normalizer,
        pre_tokenizer,
    };
    let plain_after_control = match begins_apart(&pairs) {
        Some(after) => Some(Encoder::Library(Box::new(after.build(&control)?))),
        None => None,
    };
    Ok(Vocabulary {
        plain: Encoder::Library(Box::new(pairs.build(&control)?)),
        plain_after_control,
        control,
        bytes,
    })
}

fn check_model(model: &ModelFile) -> Result<(), String> {
    if let Some(kind) = &model.kind
        && kind != "BPE"
    {
        return Err(format!(
            "tokenizer \"{kind}\" is not supported, only \"BPE\""
        ));
    }
    let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
    if affixes.into_iter().flatten().any(|affix| !affix.is_empty()) {
        return Err("vocabularies with marks for parts of words are not supported".into());
    }
    Ok(())
}

fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

fn set_bytes(bytes: &mut Vec<Box<[u8]>>, id: u32, spelled: Box<[u8]>) -> Result<(), String> {
    let index = id as usize;
    if index >= ENTRIES_MAX {
        return Err(format!("token id {id} is too large"));
    }
    if bytes.len() <= index {
        bytes.resize(index + 1, Box::default());
    }
    bytes[index] = spelled;
    Ok(())
}

/// The encoder for what follows a control token, where only the first text gets a space in front.
fn begins_apart(pairs: &BytePairs) -> Option<BytePairs> {
    let mut after = match &pairs.pre_tokenizer {
        Some(PreTokenizerWrapper::Metaspace(space))
            if space.prepend_scheme == PrependScheme::First =>
        {
            pairs.clone()
        }
        _ => return None,
    };
    if let Some(PreTokenizerWrapper::Metaspace(space)) = &mut after.pre_tokenizer {
        space.prepend_scheme = PrependScheme::Never;
    }
    Some(after)
}

/// Whether the file puts `token` before a text.
fn frame_begins_with(
    frame: Option<PostProcessorWrapper>,
    plain: &Encoder,
    token: u32,
) -> Result<bool, Error> {
    let (Some(frame), Encoder::Library(plain)) = (frame, plain) else {
        return Ok(false);
    };
    let mut framed: Tokenizer = Tokenizer::clone(plain);
    framed.with_post_processor(Some(frame));
    let encoding = framed.encode_fast("a", true).map_err(Error::Tokenizer)?;
    Ok(encoding.get_ids().first() == Some(&token))
}

/// The template's own file wins over the configuration, where "default" wins over others.
fn read_template(directory: &Path, configured: Option<TemplateText>) -> Result<String, Error> {
    let path = directory.join("chat_template.jinja");
    match read_at_most(&path, TEMPLATE_BYTES_MAX) {
        Ok(bytes) => {
            return String::from_utf8(bytes).map_err(|_| Error::model_file(path, "it is no UTF-8"));
        }
        Err(Error::ReadFile { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let template = match configured {
        Some(TemplateText::One(template)) => Some(template),
        Some(TemplateText::Named(named)) => named
            .into_iter()
            .find(|named| named.name == "default")
            .map(|named| named.template),
        None => None,
    };
    template.ok_or_else(|| {
        Error::model_file(
            directory,
            "there is no chat template: use a model that was made for conversations, \
             or put its template into chat_template.jinja",
        )
    })
}

/// What ends an answer, as the model's makers set it.
fn read_ends(directory: &Path) -> Result<Vec<u32>, Error> {
    for name in ["generation_config.json", "config.json"] {
        let config: Option<EndConfig> = read_json_if_present(&directory.join(name))?;
        match config.and_then(|config| config.eos_token_id) {
            Some(EndIds::One(id)) => return Ok(vec![id]),
            Some(EndIds::Many(ids)) => return Ok(ids),
            None => {}
        }
    }
    Ok(Vec::new())
}

impl TokenText {
    fn into_text(self) -> String {
        match self {
            TokenText::Text(text) | TokenText::Token { content: text } => text,
        }
    }
}

impl MergeEntry {
    fn into_pair(self) -> Option<(String, String)> {
        match self {
            MergeEntry::Pair(left, right) => Some((left, right)),
            MergeEntry::Text(text) => text
                .split_once(' ')
                .map(|(left, right)| (left.to_owned(), right.to_owned())),
        }
    }
}
