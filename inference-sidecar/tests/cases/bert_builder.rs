//! Writes small random BERT models as sentence-transformers directories, and computes what they
//! mean: the definition of BERT in scalar f64 arithmetic, apart from the server's code.

use std::collections::BTreeMap;

use half::{bf16, f16};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::safetensors_builder;

/// Whole words of the vocabulary; texts of tests are made of these.
pub const WORDS: [&str; 16] = [
    "price", "budget", "seats", "query", "passage", ":", "demo", "failed", "great", "call",
    "contract", "legal", "time", "plan", "offer", ".",
];
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const CLS: usize = 2;
const SEP: usize = 3;
const LAYER_NORM_EPSILON: f64 = 1e-12;

/// What a directory asks for beside the weights.
#[derive(Clone)]
pub struct Shape {
    pub hidden: usize,
    pub heads: usize,
    pub layers: usize,
    /// The name of the mode in `1_Pooling/config.json`.
    pub pooling: &'static str,
    pub normalizes: bool,
    /// `config_sentence_transformers.json`
    pub prompts: Option<Value>,
    /// "F32", "F16" or "BF16"
    pub dtype: &'static str,
    /// Before each tensor's name.
    pub name_prefix: &'static str,
    pub positions: usize,
    /// `sentence_bert_config.json`
    pub sentence: Option<Value>,
    /// Labels of a head behind the pooler, as a cross-encoder has one; 0: no head.
    pub labels: usize,
    pub seed: u64,
}

impl Shape {
    /// As all-MiniLM-L6-v2 is, in small.
    pub fn mini() -> Self {
        Self {
            hidden: 32,
            heads: 4,
            layers: 2,
            pooling: "mean_tokens",
            normalizes: true,
            prompts: None,
            dtype: "F32",
            name_prefix: "",
            positions: 40,
            sentence: Some(json!({"max_seq_length": 24, "do_lower_case": false})),
            labels: 0,
            seed: 1,
        }
    }

    /// As ms-marco-MiniLM-L6-v2 is, in small.
    pub fn cross_encoder() -> Self {
        Self {
            name_prefix: "bert.",
            sentence: None,
            labels: 1,
            seed: 5,
            ..Self::mini()
        }
    }
}

/// A model in a directory that goes away with it.
pub struct TinyBert {
    pub directory: TempDir,
    shape: Shape,
    /// Rounded as they are in the file.
    weights: BTreeMap<String, Vec<f64>>,
}

impl TinyBert {
    pub fn new(shape: Shape) -> Self {
        let directory = TempDir::new().unwrap();
        let mut random = Random(shape.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut weights = BTreeMap::new();
        let mut packed = Vec::new();
        for (name, dimensions, center) in tensors(&shape) {
            let count = dimensions.iter().product();
            let values: Vec<f32> = (0..count).map(|_| center + random.next() * 0.3).collect();
            let (bytes, values) = pack(shape.dtype, &values);
            weights.insert(name.clone(), values);
            // The head of labels stands beside the model.
            let prefix = match name.starts_with("classifier") {
                true => "",
                false => shape.name_prefix,
            };
            packed.push((format!("{prefix}{name}"), dimensions, bytes));
        }
        let entries: Vec<_> = packed
            .iter()
            .map(|(name, dimensions, bytes)| {
                (
                    name.as_str(),
                    shape.dtype,
                    dimensions.as_slice(),
                    bytes.as_slice(),
                )
            })
            .collect();
        let file = safetensors_builder::build(&entries);
        std::fs::write(directory.path().join("model.safetensors"), file).unwrap();
        let model = Self {
            directory,
            shape,
            weights,
        };
        model.write_configuration();
        model
    }

    /// Replaces a JSON file of the directory.
    pub fn write(&self, name: &str, content: &Value) {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.to_string()).unwrap();
    }

    fn write_configuration(&self) {
        let shape = &self.shape;
        self.write(
            "config.json",
            &json!({
                "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu",
                "hidden_size": shape.hidden, "num_hidden_layers": shape.layers,
                "num_attention_heads": shape.heads, "intermediate_size": shape.hidden * 2,
                "vocab_size": SPECIAL.len() + WORDS.len(), "type_vocab_size": 2,
                "max_position_embeddings": shape.positions, "pad_token_id": 0,
                "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
                "initializer_range": 0.02, "layer_norm_eps": LAYER_NORM_EPSILON,
                "position_embedding_type": "absolute", "use_cache": true,
            }),
        );
        self.write("tokenizer.json", &tokenizer_json());
        let mut pooling = json!({"word_embedding_dimension": shape.hidden,
            "pooling_mode_mean_tokens": false, "pooling_mode_cls_token": false,
            "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false});
        pooling[format!("pooling_mode_{}", shape.pooling)] = true.into();
        self.write("1_Pooling/config.json", &pooling);
        let module = |name: &str, path: &str| {
            json!({"name": name, "path": path,
                "type": format!("sentence_transformers.models.{name}")})
        };
        let mut modules = vec![module("Transformer", ""), module("Pooling", "1_Pooling")];
        if shape.normalizes {
            modules.push(module("Normalize", "2_Normalize"));
        }
        self.write("modules.json", &modules.into());
        if let Some(sentence) = &shape.sentence {
            self.write("sentence_bert_config.json", sentence);
        }
        if let Some(prompts) = &shape.prompts {
            self.write("config_sentence_transformers.json", prompts);
        }
    }

    /// The vector of a text whose words are all in `WORDS`.
    pub fn vector(&self, text: &str) -> Vec<f64> {
        let ids = [vec![CLS], ids(text), vec![SEP]].concat();
        let hidden = self.forward(&ids, ids.len());
        let pooled = match self.shape.pooling {
            "cls_token" => hidden[0].clone(),
            _ => {
                let sum = hidden.iter().cloned().reduce(|a, b| add(&a, &b)).unwrap();
                sum.iter().map(|x| x / hidden.len() as f64).collect()
            }
        };
        let length = match self.shape.normalizes {
            true => dot(&pooled, &pooled).sqrt(),
            false => 1.0,
        };
        pooled.iter().map(|x| x / length).collect()
    }

    /// The logit of the first label for a query and a passage whose words are all in `WORDS`.
    pub fn score(&self, query: &str, passage: &str) -> f64 {
        let first = [vec![CLS], ids(query), vec![SEP]].concat();
        let all = [first.clone(), ids(passage), vec![SEP]].concat();
        let hidden = self.forward(&all, first.len());
        let pooled = self.linear("pooler.dense", &hidden[0]);
        let pooled: Vec<f64> = pooled.iter().map(|x| x.tanh()).collect();
        self.linear("classifier", &pooled)[0]
    }

    /// One vector per token; those from `second` on are of a second text.
    fn forward(&self, ids: &[usize], second: usize) -> Vec<Vec<f64>> {
        let row = |name: &str, index: usize| {
            let width = self.shape.hidden;
            self.weights[name][index * width..][..width].to_vec()
        };
        let embed = |(position, id): (usize, &usize)| {
            let word = row("embeddings.word_embeddings.weight", *id);
            let place = row("embeddings.position_embeddings.weight", position);
            let kind = usize::from(position >= second);
            let sum = add(
                &add(&word, &place),
                &row("embeddings.token_type_embeddings.weight", kind),
            );
            self.layer_norm("embeddings.LayerNorm", &sum)
        };
        let mut hidden: Vec<_> = ids.iter().enumerate().map(embed).collect();
        for layer in 0..self.shape.layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            let mixed = self.attention(layer, &hidden);
            for (x, mixed) in hidden.iter_mut().zip(mixed) {
                let projected = self.linear(&name("attention.output.dense"), &mixed);
                let sum = add(x, &projected);
                let middle = self.layer_norm(&name("attention.output.LayerNorm"), &sum);
                let wide = self.linear(&name("intermediate.dense"), &middle);
                let wide: Vec<_> = wide.iter().map(|x| gelu(*x)).collect();
                let narrow = self.linear(&name("output.dense"), &wide);
                *x = self.layer_norm(&name("output.LayerNorm"), &add(&middle, &narrow));
            }
        }
        hidden
    }

    fn attention(&self, layer: usize, hidden: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let project = |part: &str| -> Vec<Vec<f64>> {
            let name = format!("encoder.layer.{layer}.attention.self.{part}");
            hidden.iter().map(|x| self.linear(&name, x)).collect()
        };
        let (queries, keys, values) = (project("query"), project("key"), project("value"));
        let size = self.shape.hidden / self.shape.heads;
        let attend = |query: &Vec<f64>| {
            let mut mixed = vec![0.0; self.shape.hidden];
            for head in (0..self.shape.heads).map(|head| head * size..(head + 1) * size) {
                let score = |key: &Vec<f64>| {
                    (dot(&query[head.clone()], &key[head.clone()]) / (size as f64).sqrt()).exp()
                };
                let scores: Vec<_> = keys.iter().map(score).collect();
                let total: f64 = scores.iter().sum();
                for (score, value) in scores.iter().zip(&values) {
                    for column in head.clone() {
                        mixed[column] += score / total * value[column];
                    }
                }
            }
            mixed
        };
        queries.iter().map(attend).collect()
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = &self.weights[&format!("{name}.weight")];
        let bias = &self.weights[&format!("{name}.bias")];
        let rows = weight.chunks(x.len());
        rows.zip(bias)
            .map(|(row, bias)| dot(row, x) + bias)
            .collect()
    }

    fn layer_norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let count = x.len() as f64;
        let mean = x.iter().sum::<f64>() / count;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let scale = &self.weights[&format!("{name}.weight")];
        let shift = &self.weights[&format!("{name}.bias")];
        let deviation = (variance + LAYER_NORM_EPSILON).sqrt();
        let scaled = x.iter().zip(scale).zip(shift);
        scaled
            .map(|((x, scale), shift)| (x - mean) / deviation * scale + shift)
            .collect()
    }
}

/// Name, dimensions and mean of each tensor.
fn tensors(shape: &Shape) -> Vec<(String, Vec<usize>, f32)> {
    let (hidden, wide) = (shape.hidden, shape.hidden * 2);
    let mut tensors = Vec::new();
    for (name, rows) in [
        ("word", SPECIAL.len() + WORDS.len()),
        ("position", shape.positions),
        ("token_type", 2),
    ] {
        let name = format!("embeddings.{name}_embeddings.weight");
        tensors.push((name, vec![rows, hidden], 0.0));
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..shape.layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for (part, rows, columns) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", wide, hidden),
            ("output.dense", hidden, wide),
        ] {
            tensors.push((format!("{}.weight", name(part)), vec![rows, columns], 0.0));
            tensors.push((format!("{}.bias", name(part)), vec![rows], 0.0));
        }
        norms.extend(["attention.output.LayerNorm", "output.LayerNorm"].map(name));
    }
    if shape.labels > 0 {
        for (name, rows) in [("pooler.dense", hidden), ("classifier", shape.labels)] {
            tensors.push((format!("{name}.weight"), vec![rows, hidden], 0.0));
            tensors.push((format!("{name}.bias"), vec![rows], 0.0));
        }
    }
    for norm in norms {
        tensors.push((format!("{norm}.weight"), vec![hidden], 1.0));
        tensors.push((format!("{norm}.bias"), vec![hidden], 0.0));
    }
    tensors
}

/// The words of a text.
fn ids(text: &str) -> Vec<usize> {
    let word = |word| SPECIAL.len() + WORDS.iter().position(|w| *w == word).unwrap();
    text.split_whitespace().map(word).collect()
}

fn tokenizer_json() -> Value {
    let words: BTreeMap<&str, usize> = SPECIAL.into_iter().chain(WORDS).zip(0..).collect();
    let special =
        |content: &str, kind: u32| json!({"SpecialToken": {"id": content, "type_id": kind}});
    let sequence = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let frame = |id: usize| json!({"id": SPECIAL[id], "ids": [id], "tokens": [SPECIAL[id]]});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
            "pair": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0),
                sequence("B", 1), special("[SEP]", 1)],
            "special_tokens": {"[CLS]": frame(CLS), "[SEP]": frame(SEP)}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": words},
    })
}

/// The bytes of `values` in a type, and the values that they say.
fn pack(dtype: &str, values: &[f32]) -> (Vec<u8>, Vec<f64>) {
    let one = |value: &f32| match dtype {
        "F16" => (
            f16::from_f32(*value).to_le_bytes().to_vec(),
            f16::from_f32(*value).to_f64(),
        ),
        "BF16" => (
            bf16::from_f32(*value).to_le_bytes().to_vec(),
            bf16::from_f32(*value).to_f64(),
        ),
        _ => (value.to_le_bytes().to_vec(), f64::from(*value)),
    };
    let (bytes, values): (Vec<_>, Vec<_>) = values.iter().map(one).unzip();
    (bytes.concat(), values)
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// x Φ(x), by the power series of the error function, which converges fast where it matters.
fn gelu(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    if z.abs() > 5.0 {
        return x.max(0.0);
    }
    let (mut term, mut sum) = (z, z);
    for n in 1..120 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    x * 0.5 * (1.0 + sum * std::f64::consts::FRAC_2_SQRT_PI)
}

/// Xorshift: numbers from -1 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}
