//! Goal: Llama's vocabularies give the reference's ids from either kind of model file, their bytes
//! give the text back, and a customer's text is never control.
//!
//! References: Hugging Face's transformers for Llama 3.1, sentencepiece for a vocabulary like
//! Llama 2's. `reference/README.md` says how the fixtures were made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use inference_sidecar::gguf::GgufFile;
use inference_sidecar::text::ChatTokenizer;
use proto::model::{ChatMessage, Role};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::gguf_builder::GgufBuilder;
use super::sidecar;

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// `llama31_prompts.json`
#[derive(Deserialize)]
struct PromptFixture {
    conversations: Vec<Conversation>,
}

#[derive(Deserialize)]
struct Conversation {
    messages: Vec<Message>,
    rendered: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: String,
}

/// `sentence_pieces.json`
#[derive(Deserialize)]
struct PieceFixture {
    /// Spelling, score, kind by GGUF's numbers.
    pieces: Vec<(String, f32, i32)>,
    texts: Vec<EncodedText>,
}

#[derive(Deserialize)]
struct EncodedText {
    text: String,
    ids: Vec<u32>,
}

/// Frames messages as Llama 2's template does; without a loop over system messages.
const TURNS: &str = "{% for message in messages %}{% if message['role'] == 'user' %}\
    {{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}{% else %}\
    {{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

fn messages(conversation: &Conversation) -> Vec<ChatMessage> {
    let message = |message: &Message| ChatMessage {
        role: match message.role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            _ => Role::Assistant,
        },
        content: message.content.clone(),
    };
    conversation.messages.iter().map(message).collect()
}

fn user(content: &str) -> [ChatMessage; 1] {
    [ChatMessage {
        role: Role::User,
        content: content.to_owned(),
    }]
}

/// The text of `ids`, with the spelling of control tokens.
fn spelled(tokenizer: &ChatTokenizer, control: &BTreeMap<u32, String>, ids: &[u32]) -> String {
    let mut text = Vec::new();
    for id in ids {
        match control.get(id) {
            Some(spelling) => text.extend_from_slice(spelling.as_bytes()),
            None => text.extend_from_slice(tokenizer.bytes(*id)),
        }
    }
    String::from_utf8(text).unwrap()
}

/// Spellings of the special tokens of a `tokenizer.json`.
fn special_tokens(tokenizer: &Value) -> BTreeMap<u32, String> {
    let token = |added: &Value| {
        let id = added["id"].as_u64().unwrap() as u32;
        (id, added["content"].as_str().unwrap().to_owned())
    };
    let added = tokenizer["added_tokens"].as_array().unwrap();
    added.iter().map(token).collect()
}

/// What converters make of Llama 3.1's directory.
fn llama_31_gguf(tokenizer: &Value, config: &Value) -> GgufFile {
    let mut tokens = special_tokens(tokenizer);
    let control: BTreeSet<u32> = tokens.keys().copied().collect();
    for (token, id) in tokenizer["model"]["vocab"].as_object().unwrap() {
        tokens.insert(id.as_u64().unwrap() as u32, token.clone());
    }
    let kinds: Vec<i32> = tokens
        .keys()
        .map(|id| {
            if control.contains(id) {
                CONTROL
            } else {
                NORMAL
            }
        })
        .collect();
    let id_of = |part: &str| {
        let spelling = config[part].as_str().unwrap();
        *tokens
            .iter()
            .find(|(_, token)| *token == spelling)
            .unwrap()
            .0
    };
    let (bos, eos) = (id_of("bos_token"), id_of("eos_token"));
    let tokens: Vec<&str> = tokens.values().map(String::as_str).collect();
    let merges = tokenizer["model"]["merges"].as_array().unwrap();
    let merges: Vec<&str> = merges.iter().map(|merge| merge.as_str().unwrap()).collect();
    let bytes = GgufBuilder::default()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "llama-bpe")
        .texts("tokenizer.ggml.tokens", &tokens)
        .codes("tokenizer.ggml.token_type", &kinds)
        .texts("tokenizer.ggml.merges", &merges)
        .count("tokenizer.ggml.bos_token_id", bos)
        .count("tokenizer.ggml.eos_token_id", eos)
        .text(
            "tokenizer.chat_template",
            config["chat_template"].as_str().unwrap(),
        )
        .build();
    GgufFile::parse(bytes, Path::new("llama-3.1.gguf")).unwrap()
}

#[test]
fn llama_31_prompts_match_hugging_face() {
    let Some(directory) = sidecar::llama_31_tokenizer("llama_31_prompts_match_hugging_face") else {
        return;
    };
    let fixture: PromptFixture =
        serde_json::from_str(include_str!("../fixtures/llama31_prompts.json")).unwrap();
    assert_eq!(fixture.conversations.len(), 50);
    let json = read_json(&directory.join("tokenizer.json"));
    let config = read_json(&directory.join("tokenizer_config.json"));
    let control = special_tokens(&json);
    for tokenizer in [
        ChatTokenizer::from_directory(&directory).unwrap(),
        ChatTokenizer::from_gguf(&llama_31_gguf(&json, &config)).unwrap(),
    ] {
        assert_eq!(tokenizer.vocabulary_size(), 128_256);
        assert!(tokenizer.is_end(128_009) && tokenizer.is_end(128_001));
        assert_eq!(tokenizer.end_token(), 128_009);
        assert!((0..128_256).all(|id| tokenizer.is_control(id) == (id >= 128_000)));
        for conversation in &fixture.conversations {
            let ids = tokenizer.prompt(&messages(conversation)).unwrap();
            assert_eq!(ids, conversation.ids, "{}", conversation.rendered);
            assert_eq!(spelled(&tokenizer, &control, &ids), conversation.rendered);
        }
        let attacks: Vec<&str> = control.values().map(String::as_str).collect();
        check_attacks(&tokenizer, &attacks);
    }
}

/// Every control token's spelling inside a message is text, and survives.
fn check_attacks(tokenizer: &ChatTokenizer, spellings: &[&str]) {
    let control = |ids: &[u32]| -> Vec<u32> {
        let ids = ids.iter().copied();
        ids.filter(|&id| tokenizer.is_control(id)).collect()
    };
    let harmless = control(&tokenizer.prompt(&user("hello")).unwrap());
    for spelling in spellings {
        let attack = format!("a{spelling}b {spelling}{spelling} end");
        let ids = tokenizer.prompt(&user(&attack)).unwrap();
        assert_eq!(control(&ids), harmless, "{spelling}");
        let text: Vec<u8> = ids
            .iter()
            .flat_map(|&id| tokenizer.bytes(id).to_vec())
            .collect();
        assert!(
            String::from_utf8(text).unwrap().contains(&attack),
            "{spelling}"
        );
        assert!(control(&tokenizer.text().encode(&attack).unwrap()).is_empty());
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn piece_fixture() -> PieceFixture {
    serde_json::from_str(include_str!("../fixtures/sentence_pieces.json")).unwrap()
}

fn pieces_gguf(fixture: &PieceFixture) -> GgufBuilder {
    let pieces = &fixture.pieces;
    let tokens: Vec<&str> = pieces.iter().map(|(token, _, _)| token.as_str()).collect();
    let kinds: Vec<i32> = pieces.iter().map(|&(_, _, kind)| kind).collect();
    let mut scores = 6u32.to_le_bytes().to_vec();
    scores.extend((pieces.len() as u64).to_le_bytes());
    scores.extend(pieces.iter().flat_map(|(_, score, _)| score.to_le_bytes()));
    GgufBuilder::default()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &tokens)
        .codes("tokenizer.ggml.token_type", &kinds)
        .entry("tokenizer.ggml.scores", 9, &scores)
        .count("tokenizer.ggml.bos_token_id", 1)
        .count("tokenizer.ggml.eos_token_id", 2)
        .count("tokenizer.ggml.unknown_token_id", 0)
        .text("tokenizer.chat_template", TURNS)
}

/// The same vocabulary as Hugging Face writes Llama 2's.
fn pieces_tokenizer_json(fixture: &PieceFixture) -> Value {
    let pieces = &fixture.pieces;
    let vocabulary: BTreeMap<&str, usize> = (0..)
        .zip(pieces)
        .map(|(id, (token, _, _))| (token.as_str(), id))
        .collect();
    let mut merges = Vec::new();
    // Trained pieces are in the order of their scores.
    for (token, _, kind) in pieces {
        for (border, _) in token.char_indices().skip(1).filter(|_| *kind == NORMAL) {
            let (left, right) = token.split_at(border);
            if vocabulary.contains_key(left) && vocabulary.contains_key(right) {
                merges.push(json!([left, right]));
            }
        }
    }
    let special = ["<unk>", "<s>", "</s>"];
    let added: Vec<_> = (0..)
        .zip(special)
        .map(|(id, content): (u32, _)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "vocab": vocabulary, "merges": merges},
    })
}

fn write_json(directory: &Path, name: &str, content: &Value) {
    std::fs::write(directory.join(name), content.to_string()).unwrap();
}

/// A directory like Llama 2's; its template is `TURNS`.
fn pieces_directory(fixture: &PieceFixture) -> TempDir {
    let directory = TempDir::new().unwrap();
    write_json(
        directory.path(),
        "tokenizer.json",
        &pieces_tokenizer_json(fixture),
    );
    let config = json!({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>",
        "chat_template": TURNS});
    write_json(directory.path(), "tokenizer_config.json", &config);
    directory
}

fn parse(gguf: GgufBuilder) -> ChatTokenizer {
    let file = GgufFile::parse(gguf.build(), Path::new("pieces.gguf")).unwrap();
    ChatTokenizer::from_gguf(&file).unwrap()
}

#[test]
fn pieces_match_sentencepiece() {
    let fixture = piece_fixture();
    assert_eq!(fixture.texts.len(), 40);
    let directory = pieces_directory(&fixture);
    for tokenizer in [
        parse(pieces_gguf(&fixture)),
        ChatTokenizer::from_directory(directory.path()).unwrap(),
    ] {
        for item in &fixture.texts {
            let ids = tokenizer.text().encode(&item.text).unwrap();
            assert_eq!(ids, item.ids, "{:?}", item.text);
            let bytes: Vec<u8> = ids
                .iter()
                .flat_map(|&id| tokenizer.bytes(id).to_vec())
                .collect();
            // The space in front was added; the mark stands for a space wherever it came from.
            let expected = format!(" {}", item.text.replace('▁', " "));
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
        assert_eq!(tokenizer.text().with_special_tokens(&[5]), [1, 5]);
        assert_eq!(tokenizer.end_token(), 2);
        check_attacks(&tokenizer, &["<s>", "</s>", "<unk>"]);
        let prompt = tokenizer.prompt(&user("hi")).unwrap();
        assert_eq!(prompt.iter().filter(|&&id| id == 1).count(), 1);
        assert_eq!(prompt[0], 1);
    }
    let bare = pieces_gguf(&fixture).flag("tokenizer.ggml.add_space_prefix", false);
    let space = fixture
        .pieces
        .iter()
        .position(|(token, _, _)| token == "▁")
        .unwrap() as u32;
    let ids = parse(bare).text().encode("🙂").unwrap();
    assert!(!ids.contains(&space) && ids.len() == 4);
}

#[test]
fn what_a_directory_may_say() {
    let fixture = piece_fixture();
    let directory = pieces_directory(&fixture);
    let path = directory.path();
    let tokenizer = || ChatTokenizer::from_directory(path);
    let ends = |ids: [u32; 3]| ids.map(|id| tokenizer().unwrap().is_end(id));

    assert_eq!(ends([2, 300, 301]), [true, false, false]);
    write_json(
        path,
        "generation_config.json",
        &json!({"eos_token_id": [300, 301]}),
    );
    assert_eq!(ends([2, 300, 301]), [true, true, true]);
    assert_eq!(tokenizer().unwrap().end_token(), 2);
    write_json(
        path,
        "generation_config.json",
        &json!({"eos_token_id": 300}),
    );
    assert_eq!(ends([2, 300, 301]), [true, true, false]);
    write_json(
        path,
        "generation_config.json",
        &json!({"eos_token_id": 700}),
    );
    assert!(tokenizer().is_err());
    write_json(path, "generation_config.json", &json!({}));

    let config = |template: Value| {
        let config = json!({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false,
            "chat_template": template});
        write_json(path, "tokenizer_config.json", &config);
    };
    let first = || {
        let tokenizer = tokenizer().unwrap();
        let prompt = tokenizer.prompt(&user("hi")).unwrap();
        spelled(&tokenizer, &BTreeMap::from([(1, "<s>".into())]), &prompt)
    };
    config(
        json!([{"name": "tools", "template": "T{{ messages[0].content }}"},
        {"name": "default", "template": "D{{ messages[0].content }}"}]),
    );
    assert_eq!(first(), " Dhi");
    std::fs::write(
        path.join("chat_template.jinja"),
        "J{{ messages[0].content }}",
    )
    .unwrap();
    assert_eq!(first(), " Jhi");
    std::fs::remove_file(path.join("chat_template.jinja")).unwrap();
    for wrong in [
        json!(null),
        json!([]),
        json!("{% if %}"),
        json!("forgetful"),
    ] {
        config(wrong);
        assert!(tokenizer().is_err());
    }
}

#[test]
fn broken_vocabularies_are_refused() {
    let fixture = piece_fixture();
    let directory = pieces_directory(&fixture);
    let original = pieces_tokenizer_json(&fixture);
    let check = |pointer: &str, value: Value, expected: &str| {
        let mut changed = original.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        write_json(directory.path(), "tokenizer.json", &changed);
        let refused = ChatTokenizer::from_directory(directory.path())
            .err()
            .unwrap();
        assert!(
            refused.to_string().contains(expected),
            "{pointer}: {refused}"
        );
    };
    check("/model/type", json!("Unigram"), "Unigram");
    check("/model/merges/0", json!(["no", "entry"]), "no entry");
    check("/model/merges/0", json!("alone"), "no pair");
    check("/model/byte_fallback", json!(false), "byte fallback");
    check(
        "/model/end_of_word_suffix",
        json!("</w>"),
        "marks for parts of words",
    );
    check("/model/vocab", json!({"<s>": 1}), "no entry");
    check("/model/vocab/▁", json!(u32::MAX), "too large");
}

#[test]
fn only_the_first_text_may_get_a_space() {
    let fixture = piece_fixture();
    let directory = pieces_directory(&fixture);
    let mut json = pieces_tokenizer_json(&fixture);
    json["normalizer"] = Value::Null;
    json["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "▁",
        "prepend_scheme": "first", "split": false});
    write_json(directory.path(), "tokenizer.json", &json);
    let tokenizer = ChatTokenizer::from_directory(directory.path()).unwrap();
    let with_space = parse(pieces_gguf(&fixture));
    let bare = parse(pieces_gguf(&fixture).flag("tokenizer.ggml.add_space_prefix", false));

    let encode = |tokenizer: &ChatTokenizer, text| tokenizer.text().encode(text).unwrap();
    let framed = "[INST] hi [/INST]";
    assert_ne!(encode(&with_space, framed), encode(&bare, framed));
    assert_eq!(encode(&tokenizer, framed), encode(&with_space, framed));
    let prompt = tokenizer.prompt(&user("hi")).unwrap();
    assert_eq!(prompt[1..], encode(&bare, framed));
    let prompt = with_space.prompt(&user("hi")).unwrap();
    assert_eq!(prompt[1..], encode(&with_space, framed));
}

/// The vocabulary of SmolLM2 as Hugging Face writes it.
fn smollm2_directory(file: &GgufFile) -> TempDir {
    let tokens = file.texts("tokenizer.ggml.tokens").unwrap();
    let kinds = file.codes("tokenizer.ggml.token_type").unwrap();
    let vocabulary: BTreeMap<_, _> = tokens.iter().copied().zip(0..).collect();
    let added: Vec<_> = tokens
        .iter()
        .zip(&kinds)
        .filter(|&(_, &kind)| kind == i64::from(CONTROL))
        .map(|(token, _)| {
            json!({"id": vocabulary[token], "content": token, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true});
    let directory = TempDir::new().unwrap();
    let json = json!({
        "version": "1.0", "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, byte_level]},
        "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary,
            "merges": file.texts("tokenizer.ggml.merges").unwrap()},
    });
    write_json(directory.path(), "tokenizer.json", &json);
    let config = json!({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
        "chat_template": file.text("tokenizer.chat_template").unwrap()});
    write_json(directory.path(), "tokenizer_config.json", &config);
    directory
}

#[test]
fn a_directory_of_smollm2_equals_its_gguf() {
    let Some(model) = sidecar::language_model("a_directory_of_smollm2_equals_its_gguf") else {
        return;
    };
    let file = GgufFile::open(&model).unwrap();
    let directory = smollm2_directory(&file);
    let from_gguf = ChatTokenizer::from_gguf(&file).unwrap();
    let from_directory = ChatTokenizer::from_directory(directory.path()).unwrap();
    let fixture: PromptFixture =
        serde_json::from_str(include_str!("../fixtures/llama31_prompts.json")).unwrap();
    for conversation in &fixture.conversations {
        let messages = messages(conversation);
        assert_eq!(
            from_directory.prompt(&messages).unwrap(),
            from_gguf.prompt(&messages).unwrap()
        );
    }
    let count = from_gguf.vocabulary_size();
    assert_eq!(from_directory.vocabulary_size(), count);
    for id in (0..).take(count) {
        assert_eq!(from_directory.bytes(id), from_gguf.bytes(id));
        assert_eq!(from_directory.is_end(id), from_gguf.is_end(id));
        assert_eq!(from_directory.is_control(id), from_gguf.is_control(id));
    }
}
