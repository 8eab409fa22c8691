//! Agreement with Hugging Face's Reformer to the last digit that `f32` has: buckets, hidden states,
//! logits, loss and the gradient of every parameter, in reversible and in plain mode.
//!
//! The cases are in `tests/data/hf` (see the README there). More are read from the directory in
//! the environment variable `HF_CASES`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Bool, Int, Tensor, TensorData};
use burn_autodiff::Autodiff;
use reformer_core::Pass;
use reformer_core::huggingface::{self, HuggingFaceError};
use reformer_core::kernels::TrainBackend;
use reformer_core::model::{Loss, ReformerLm, ReformerLmConfig, Trainable};
use reformer_core::reversible::Mode;
use safetensors::SafeTensors;

/// A named tensor as plain numbers.
#[derive(Clone)]
struct Values {
    shape: Vec<usize>,
    numbers: Vec<f64>,
}

fn read(path: &Path) -> BTreeMap<String, Values> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |view: &safetensors::tensor::TensorView| -> Vec<f64> {
        match view.dtype() {
            safetensors::Dtype::F32 => view
                .data()
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                .collect(),
            safetensors::Dtype::I64 => view
                .data()
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
                .collect(),
            other => panic!("{other:?} in {}", path.display()),
        }
    };
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let shape = view.shape().to_vec();
            let numbers = numbers(&view);
            (name, Values { shape, numbers })
        })
        .collect()
}

impl Values {
    fn float<B: Backend, const D: usize>(&self, device: &B::Device) -> Tensor<B, D> {
        let numbers: Vec<f32> = self.numbers.iter().map(|&x| x as f32).collect();
        Tensor::from_data(TensorData::new(numbers, self.shape.clone()), device)
    }

    fn int<B: Backend, const D: usize>(&self, device: &B::Device) -> Tensor<B, D, Int> {
        let numbers: Vec<i64> = self.numbers.iter().map(|&x| x as i64).collect();
        Tensor::from_data(TensorData::new(numbers, self.shape.clone()), device)
    }
}

/// Compares with `absolute + relative * |expected|` as the limit.
fn assert_close(what: &str, found: &[f64], expected: &[f64], absolute: f64, relative: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: another size");
    let excess = |(at, (found, expected)): (usize, (&f64, &f64))| {
        let error = (found - expected).abs();
        (error - absolute - relative * expected.abs(), at, error)
    };
    let pairs = found.iter().zip(expected).enumerate();
    let worst = pairs.map(excess).max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((excess, at, error)) = worst {
        assert!(
            excess <= 0.0,
            "{what}: off by {error:.3e} at {at}: {} instead of {}",
            found[at],
            expected[at]
        );
    }
}

fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Puts gradients in the place of parameters, so that they can be written under their names.
struct GradientsAsWeights<'a>(&'a mut GradientsParams);

impl<B: AutodiffBackend> ModuleMapper<B> for GradientsAsWeights<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        match self.0.remove::<B::InnerBackend, D>(param.id) {
            Some(gradient) => param.map(|_| Tensor::from_inner(gradient).require_grad()),
            None => param.map(|value| value.zeros_like()),
        }
    }
}

struct Case<B: AutodiffBackend> {
    name: String,
    expected: BTreeMap<String, Values>,
    model: ReformerLm<B>,
    config: ReformerLmConfig,
    tokens: Tensor<B, 2, Int>,
    mask_pad: Option<Tensor<B, 2, Bool>>,
}

impl<B: TrainBackend> Case<B> {
    fn load(folder: &Path) -> Result<Self, HuggingFaceError> {
        let device = Default::default();
        let (mut model, config) = huggingface::load::<B>(folder, &device)?;
        let expected = read(&folder.join("expected.safetensors"));
        let rotations: Vec<_> = (0..)
            .map_while(|layer| expected.get(&format!("rotations.{layer}")))
            .map(|values| values.float(&device))
            .collect();
        if !rotations.is_empty() {
            model.reformer = model.reformer.with_rotations(rotations)?;
        }
        Ok(Self {
            name: folder.display().to_string(),
            tokens: expected["input_ids"].int(&device),
            mask_pad: expected
                .get("attention_mask")
                .map(|mask| mask.int::<B, 2>(&device).equal_elem(0)),
            expected,
            model,
            config,
        })
    }

    fn pass(&self) -> Pass<B> {
        Pass::eval().with_mask_pad(self.mask_pad.clone())
    }

    /// Buckets, without the offsets of rounds that Hugging Face adds.
    fn check_buckets(&self) {
        let found = self
            .model
            .reformer
            .buckets(self.tokens.clone(), &self.pass());
        let expected: Vec<_> = (0..)
            .map_while(|layer| self.expected.get(&format!("buckets.{layer}")))
            .collect();
        assert_eq!(found.len(), expected.len(), "{}: LSH layers", self.name);
        for (layer, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            let [_, _, n_rounds, seq_length] = found.dims();
            let lsh = &self.config.reformer.lsh;
            let factors = lsh.n_buckets.factors(seq_length, lsh.chunk_length);
            let padded = self
                .mask_pad
                .clone()
                .is_some_and(|mask| mask.any().into_data().iter::<bool>().any(|any| any));
            let n_buckets = factors.iter().product::<usize>() + usize::from(padded);
            let found: Vec<i64> = found.into_data().iter().collect();
            for (at, (found, expected)) in found.into_iter().zip(&expected.numbers).enumerate() {
                let round = at / seq_length % n_rounds;
                assert_eq!(
                    found + (round * n_buckets) as i64,
                    *expected as i64,
                    "{}: bucket {at} of LSH layer {layer}",
                    self.name
                );
            }
        }
    }

    fn check_outputs(&self) {
        let check = |what: &str, found: Vec<f64>| {
            if let Some(expected) = self.expected.get(what) {
                let what = format!("{}: {what}", self.name);
                assert_close(&what, &found, &expected.numbers, 2e-4, 1e-4);
            }
        };
        let pass = self.pass();
        let hidden = self.model.reformer.forward(self.tokens.clone(), &pass);
        check("hidden", numbers(hidden));
        check(
            "logits",
            numbers(self.model.forward(self.tokens.clone(), &pass)),
        );
        if let Some(targets) = self.targets() {
            let loss = self.model.loss((self.tokens.clone(), targets), &pass);
            check("loss", numbers(loss.loss));
        }
    }

    /// Labels where we predict them: a causal model predicts each token one position before.
    fn targets(&self) -> Option<Tensor<B, 2, Int>> {
        let device = self.tokens.device();
        let labels = self.expected.get("labels")?.int::<B, 2>(&device);
        if !self.config.reformer.causal {
            return Some(labels);
        }
        let [batch_size, seq_length] = labels.dims();
        let ignored = Tensor::full([batch_size, 1], -100, &device);
        let shifted = labels.slice_dim(1, 1..seq_length);
        Some(Tensor::cat(vec![shifted, ignored], 1))
    }

    fn check_gradients(&self, mode: Mode) {
        let Some(targets) = self.targets() else {
            return;
        };
        let model = self.model.clone().with_mode(mode);
        let (loss, mut gradients) = model.gradients((self.tokens.clone(), targets), self.pass());
        let what = format!("{}, {mode:?}: loss", self.name);
        let expected = &self.expected["loss"].numbers;
        assert_close(&what, &numbers(loss.loss), expected, 2e-4, 1e-4);

        let folder = tempfile::tempdir().unwrap();
        let as_weights = model.map(&mut GradientsAsWeights(&mut gradients));
        assert_eq!(gradients.len(), 0, "{}: gradients of nothing", self.name);
        huggingface::save(&as_weights, &self.config, folder.path()).unwrap();
        let found = read(&folder.path().join("model.safetensors"));
        let mut compared = 0;
        for (name, expected) in &self.expected {
            let Some(name) = name.strip_prefix("grad.") else {
                continue;
            };
            let what = format!("{}, {mode:?}: gradient of {name}", self.name);
            let found = found.get(name).unwrap_or_else(|| panic!("{what}: none"));
            assert_eq!(found.shape, expected.shape, "{what}");
            let largest = expected
                .numbers
                .iter()
                .fold(0.0, |m: f64, x| m.max(x.abs()));
            // A gradient that is zero by symmetry (a query with one key only, say) is rounding here.
            let limit = (1e-3 * largest).max(1e-7);
            assert_close(&what, &found.numbers, &expected.numbers, limit, 0.0);
            compared += 1;
        }
        assert_eq!(compared, found.len(), "{}: gradients compared", self.name);
    }
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = std::fs::read_dir(parent)
        .unwrap_or_else(|error| panic!("{}: {error}", parent.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("expected.safetensors").exists())
        .collect();
    folders.sort();
    folders
}

fn check<B: TrainBackend>(folder: &Path) -> Result<(), HuggingFaceError> {
    let case = Case::<B>::load(folder)?;
    case.check_buckets();
    case.check_outputs();
    case.check_gradients(Mode::Reversible);
    case.check_gradients(Mode::Plain);
    Ok(())
}

fn check_all<B: TrainBackend>() {
    let shipped = folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hf"));
    assert_eq!(shipped.len(), 7);
    for folder in shipped {
        check::<B>(&folder).unwrap();
    }
    let Ok(more) = std::env::var("HF_CASES") else {
        return;
    };
    for folder in folders(Path::new(&more)) {
        match check::<B>(&folder) {
            // A setting of Hugging Face's that is refused is named.
            Err(error @ HuggingFaceError::Unsupported { .. }) => {
                println!("{}: refused, {error}", folder.display());
            }
            result => result.unwrap(),
        }
    }
}

#[test]
fn agrees_with_hugging_face_on_flex() {
    check_all::<Autodiff<burn_flex::Flex>>();
}

#[test]
fn agrees_with_hugging_face_on_ndarray() {
    check_all::<Autodiff<burn_ndarray::NdArray>>();
}
