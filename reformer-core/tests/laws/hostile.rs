//! Folders made to break a reader: one line each, in little time and memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use reformer_core::huggingface::HuggingFaceError;
use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
use tempfile::TempDir;

use crate::huggingface::{assert_same_weights, copy, data, edit_config, load};
use crate::memory::peak;

/// What reading a small file may hold.
const MAX_MEMORY: usize = 200 << 20;
const MAX_TIME: Duration = Duration::from_secs(5);

/// Loads a folder that cannot be loaded. Answers the one line that says why.
fn refused(folder: &Path) -> String {
    let mut line = String::new();
    let started = Instant::now();
    let held = peak(|| line = load(folder).map(|_| ()).unwrap_err().to_string());
    assert!(started.elapsed() < MAX_TIME, "{:?}", started.elapsed());
    assert!(held < MAX_MEMORY, "{held} bytes");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.len() < 3000, "{line}");
    line
}

/// A folder with other weights.
fn with_pickle(bytes: &[u8]) -> TempDir {
    let folder = copy("causal-one-round");
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), bytes).unwrap();
    folder
}

/// An archive as PyTorch writes it, around a pickle.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let plain =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("archive/data.pkl", plain).unwrap();
    std::io::Write::write_all(&mut writer, pickle).unwrap();
    writer.finish().unwrap().into_inner()
}

#[test]
fn pickles_that_grow_without_end_are_refused() {
    let bomb = fs::read(data("pytorch/memo-bomb.bin")).unwrap();
    let line = refused(with_pickle(&bomb).path());
    assert!(line.contains("describes more than"), "{line}");
    let mut deep = vec![0x80, 2];
    deep.extend([b']'; 200_000]);
    deep.extend([b'a'; 199_999]);
    deep.push(b'.');
    let line = refused(with_pickle(&archive(&deep)).path());
    assert!(line.contains("deeper than"), "{line}");
}

#[test]
fn packed_archives_are_refused() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let packed = options.compression_method(zip::CompressionMethod::Deflated);
    writer.start_file("archive/data.pkl", packed).unwrap();
    for _ in 0..1000 {
        std::io::Write::write_all(&mut writer, &[b'N'; 100_000]).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    assert!(bytes.len() < 1 << 20);
    let line = refused(with_pickle(&bytes).path());
    assert!(line.contains("packed"), "{line}");
}

/// The tensors of a golden case: type, shape and bytes.
fn tensors(case: &str) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(data("hf").join(case).join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let all = tensors.tensors().into_iter();
    all.map(|(name, view)| {
        let shape = view.shape().to_vec();
        (name, (view.dtype(), shape, view.data().to_vec()))
    })
    .collect()
}

fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a String, &'a (Dtype, Vec<usize>, Vec<u8>))>,
) {
    let views = tensors.into_iter().map(|(name, (dtype, shape, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

#[test]
fn weights_in_several_files_are_those_of_one() {
    let case = "causal-mixed-factored";
    let folder = copy(case);
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let all = tensors(case);
    let file = |number: usize| format!("model-{:05}-of-00003.safetensors", number % 3 + 1);
    let of_file = |n: usize| {
        all.iter()
            .enumerate()
            .filter(move |(number, _)| number % 3 == n)
    };
    for n in 0..3 {
        write(
            &folder.path().join(file(n)),
            of_file(n).map(|(_, tensor)| tensor),
        );
    }
    let map: BTreeMap<&String, String> = all
        .keys()
        .enumerate()
        .map(|(number, name)| (name, file(number)))
        .collect();
    let index = folder.path().join("model.safetensors.index.json");
    let write_index = |map: &BTreeMap<&String, String>| {
        let json = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
        fs::write(&index, json.to_string()).unwrap();
    };
    write_index(&map);
    let (model, _) = load(folder.path()).unwrap();
    let (whole, _) = load(&data("hf").join(case)).unwrap();
    assert_same_weights(&model, &whole);

    let mut elsewhere = map.clone();
    elsewhere
        .values_mut()
        .for_each(|file| file.insert_str(0, "../"));
    write_index(&elsewhere);
    assert!(refused(folder.path()).contains("not a file in the same folder"));
    write_index(&map);
    fs::remove_file(folder.path().join(file(1))).unwrap();
    assert!(refused(folder.path()).contains("model-00002-of-00003"));
}

/// Opening a pipe without a writer blocks.
#[cfg(unix)]
#[test]
fn pipes_in_the_place_of_configurations_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(folder.path().join("config.json"))
        .status();
    assert!(made.unwrap().success());
    assert!(reformer_core::huggingface::head(folder.path()).is_none());
    assert!(refused(folder.path()).contains("not a regular file"));
}

#[test]
fn integers_are_no_weights() {
    let case = "causal-one-round";
    let folder = copy(case);
    let mut all = tensors(case);
    let name = "reformer.encoder.layer_norm.weight";
    all.get_mut(name).unwrap().0 = Dtype::I32;
    write(&folder.path().join("model.safetensors"), &all);
    let line = refused(folder.path());
    assert!(line.contains(name) && line.contains("I32"), "{line}");
}

#[test]
fn a_million_tensors_are_refused_at_once() {
    let folder = copy("causal-one-round");
    let entry =
        |n: usize| format!("\"t{n}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let header = format!(
        "{{{}}}",
        (0..1_000_000).map(entry).collect::<Vec<_>>().join(",")
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let started = Instant::now();
    let error = load(folder.path()).unwrap_err();
    assert!(started.elapsed() < 2 * MAX_TIME, "{:?}", started.elapsed());
    let line = error.to_string();
    assert!(line.contains("others") && line.len() < 3000, "{line}");
}

#[test]
fn settings_beyond_all_measure_are_named() {
    for (setting, value) in [
        ("num_buckets", serde_json::json!(1_000_000_000)),
        ("num_buckets", serde_json::json!(vec![1 << 20; 8])),
        ("num_hashes", serde_json::json!(u64::MAX)),
        ("hidden_size", serde_json::json!(1u64 << 62)),
        ("feed_forward_size", serde_json::json!(1u64 << 62)),
        ("attention_head_size", serde_json::json!(1u64 << 62)),
        ("num_attention_heads", serde_json::json!(1u64 << 62)),
        ("vocab_size", serde_json::json!(u64::MAX)),
        ("lsh_attn_chunk_length", serde_json::json!(u64::MAX)),
        ("lsh_num_chunks_before", serde_json::json!(u64::MAX)),
        ("axial_pos_shape", serde_json::json!([u64::MAX, u64::MAX])),
        ("layer_norm_eps", serde_json::json!(-1.0)),
    ] {
        let folder = copy("causal-lsh");
        edit_config(folder.path(), |config| {
            config["axial_pos_embds"] = true.into();
            config[setting] = value;
        });
        let error = load(folder.path()).map(|_| ()).unwrap_err();
        assert!(
            matches!(error, HuggingFaceError::Config(_)),
            "{setting}: {error}"
        );
    }
}

/// A change of a file: bytes at places, a length, or a part that stands elsewhere too.
#[derive(Debug, Clone)]
enum Change {
    Bytes(Vec<(usize, u8)>),
    Cut(usize),
    Repeat(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => prop::collection::vec((any::<usize>(), any::<u8>()), 1..6).prop_map(Change::Bytes),
        1 => any::<usize>().prop_map(Change::Cut),
        1 => (any::<usize>(), 1..400usize).prop_map(|(at, length)| Change::Repeat(at, length)),
    ]
}

impl Change {
    /// Applies it to the first `head` bytes, where the structure is.
    fn apply(&self, mut bytes: Vec<u8>, head: usize) -> Vec<u8> {
        let head = head.min(bytes.len());
        match self {
            Self::Bytes(changes) => changes
                .iter()
                .for_each(|(at, byte)| bytes[at % head] = *byte),
            Self::Cut(at) => bytes.truncate(at % bytes.len()),
            Self::Repeat(at, length) => {
                let at = at % head;
                let part = bytes[at..bytes.len().min(at + length)].to_vec();
                bytes.splice(at..at, part);
            }
        }
        bytes
    }
}

fn settings() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::with_cases(150)
    }
}

/// Loads what may or may not be valid.
fn try_load(folder: &Path) {
    let held = peak(|| {
        if let Err(error) = load(folder) {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    });
    assert!(held < MAX_MEMORY, "{held} bytes");
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn changed_safetensors_never_panic(change in change()) {
        let folder = copy("causal-one-round");
        let path = folder.path().join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize + 8;
        fs::write(&path, change.apply(bytes, header)).unwrap();
        try_load(folder.path());
    }

    #[test]
    fn changed_pickles_never_panic(change in change()) {
        let bytes = fs::read(data("pytorch/pytorch_model.bin")).unwrap();
        // The pickle stands at the start of the archive, its directory at the end.
        let folder = with_pickle(&change.apply(bytes.clone(), 6000));
        try_load(folder.path());
        let mut reversed: Vec<u8> = bytes.into_iter().rev().collect();
        reversed = change.apply(reversed, 6000);
        let folder = with_pickle(&reversed.into_iter().rev().collect::<Vec<_>>());
        try_load(folder.path());
    }
}
