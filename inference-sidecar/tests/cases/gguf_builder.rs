//! Writes small GGUF files: entries of every kind, tensors of every format. Wrong ones as well.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use inference_sidecar::models::Format;

/// A file in the making; `build` writes it.
#[derive(Clone)]
pub struct GgufBuilder {
    pub version: u32,
    /// Of the tensors' offsets; also an entry when it is not 32.
    pub alignment: u32,
    /// Key, number of the kind, and the bytes of the value.
    pub entries: Vec<(String, u32, Vec<u8>)>,
    pub tensors: Vec<TensorEntry>,
}

/// A tensor as the header describes it, and its weights.
#[derive(Clone)]
pub struct TensorEntry {
    pub name: String,
    /// The columns first.
    pub dimensions: Vec<u64>,
    pub ggml_type: u32,
    /// In place of the right one.
    pub offset: Option<u64>,
    pub bytes: Vec<u8>,
}

impl Default for GgufBuilder {
    fn default() -> Self {
        Self {
            version: 3,
            alignment: 32,
            entries: Vec::new(),
            tensors: Vec::new(),
        }
    }
}

impl GgufBuilder {
    /// An entry of any kind, by its number, whose value is the bytes.
    pub fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.entries.push((key.into(), kind, value.into()));
        self
    }

    pub fn count(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    pub fn number(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    pub fn flag(self, key: &str, value: bool) -> Self {
        self.entry(key, 7, &[value.into()])
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        self.entry(key, 8, &text(value))
    }

    pub fn texts(self, key: &str, values: &[&str]) -> Self {
        let values: Vec<_> = values.iter().map(|value| text(value)).collect();
        self.entry(key, 9, &list(8, &values))
    }

    pub fn codes(self, key: &str, values: &[i32]) -> Self {
        let values: Vec<_> = values.iter().map(|v| v.to_le_bytes().to_vec()).collect();
        self.entry(key, 9, &list(5, &values))
    }

    /// `values` row by row, rounded to what `format` can express.
    pub fn matrix(mut self, name: &str, format: Format, columns: usize, values: &[f32]) -> Self {
        self.tensors.push(TensorEntry {
            name: name.into(),
            dimensions: vec![columns as u64, (values.len() / columns) as u64],
            ggml_type: candle_format(format).1,
            offset: None,
            bytes: pack(format, values),
        });
        self
    }

    /// A tensor of one dimension in f32.
    pub fn vector(mut self, name: &str, values: &[f32]) -> Self {
        self.tensors.push(TensorEntry {
            name: name.into(),
            dimensions: vec![values.len() as u64],
            ggml_type: 0,
            offset: None,
            bytes: pack(Format::F32, values),
        });
        self
    }

    /// Everything before the weights, without padding.
    pub fn header(&self) -> Vec<u8> {
        let alignment = (
            "general.alignment".into(),
            4,
            self.alignment.to_le_bytes().to_vec(),
        );
        let alignment = (self.alignment != 32).then_some(&alignment).into_iter();
        let entries: Vec<_> = self.entries.iter().chain(alignment).collect();
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((entries.len() as u64).to_le_bytes());
        for (key, kind, value) in entries {
            bytes.extend(text(key));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            bytes.extend(text(&tensor.name));
            bytes.extend((tensor.dimensions.len() as u32).to_le_bytes());
            bytes.extend(tensor.dimensions.iter().flat_map(|d| d.to_le_bytes()));
            bytes.extend(tensor.ggml_type.to_le_bytes());
            bytes.extend(tensor.offset.unwrap_or(offset).to_le_bytes());
            offset = (offset + tensor.bytes.len() as u64).next_multiple_of(self.step() as u64);
        }
        bytes
    }

    /// The whole file.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.header();
        for tensor in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(self.step()), 0);
            bytes.extend(&tensor.bytes);
        }
        bytes
    }

    fn step(&self) -> usize {
        self.alignment.max(1) as usize
    }
}

/// A small file with an entry of every kind and a tensor of every format.
pub fn sample() -> GgufBuilder {
    let mut builder = GgufBuilder::default()
        .text("general.architecture", "llama")
        .entry("u8", 0, &[200])
        .entry("i8", 1, &[0xff])
        .entry("u16", 2, &60_000u16.to_le_bytes())
        .entry("i16", 3, &(-2i16).to_le_bytes())
        .count("u32", 4_000_000_000)
        .entry("i32", 5, &(-3i32).to_le_bytes())
        .number("f32", 0.5)
        .flag("flag", true)
        .entry("u64", 10, &u64::MAX.to_le_bytes())
        .entry("i64", 11, &i64::MIN.to_le_bytes())
        .entry("f64", 12, &0.25f64.to_le_bytes())
        .texts("texts", &["", "a", "Grüße"])
        .codes("codes", &[1, -1, 3])
        .entry("flags", 9, &list(7, &[vec![1], vec![0]]))
        .entry(
            "lists",
            9,
            &list(9, &[list(0, &[vec![1]]), list(8, &[text("b")])]),
        );
    for (index, format) in Format::ALL.into_iter().enumerate() {
        let value = |i: usize| ((i * 37 + index * 11) % 101) as f32 / 50.0 - 1.0;
        let values: Vec<f32> = (0..2 * format.block_weights()).map(value).collect();
        let name = format!("{format:?}");
        builder = builder.matrix(&name, format, format.block_weights(), &values);
    }
    builder.vector("vector", &[1.0, -2.0, 3.0])
}

/// `values` as they lie in a file, by candle's packing.
pub fn pack(format: Format, values: &[f32]) -> Vec<u8> {
    let tensor = Tensor::new(values, &Device::Cpu).unwrap();
    let packed = QTensor::quantize(&tensor, candle_format(format).0).unwrap();
    packed.data().unwrap().into_owned()
}

/// Length and bytes of a text.
pub fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes(), value.as_bytes()].concat()
}

/// Kind, number and bytes of the values of a list.
pub fn list(kind: u32, values: &[Vec<u8>]) -> Vec<u8> {
    let count = (values.len() as u64).to_le_bytes();
    [&kind.to_le_bytes(), &count[..], &values.concat()].concat()
}

fn candle_format(format: Format) -> (GgmlDType, u32) {
    match format {
        Format::F32 => (GgmlDType::F32, 0),
        Format::F16 => (GgmlDType::F16, 1),
        Format::Q4_0 => (GgmlDType::Q4_0, 2),
        Format::Q4_1 => (GgmlDType::Q4_1, 3),
        Format::Q5_0 => (GgmlDType::Q5_0, 6),
        Format::Q5_1 => (GgmlDType::Q5_1, 7),
        Format::Q8_0 => (GgmlDType::Q8_0, 8),
        Format::Q4K => (GgmlDType::Q4K, 12),
        Format::Q5K => (GgmlDType::Q5K, 13),
        Format::Q6K => (GgmlDType::Q6K, 14),
        Format::Bf16 => (GgmlDType::BF16, 30),
    }
}
