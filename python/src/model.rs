//! Trained language models.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use numpy::PyArrayDyn;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use reformer_core::attention::Buckets;
use reformer_core::burn::tensor::{Tensor, TensorData};
use reformer_core::burn_flex::Flex;
use reformer_core::generation::{
    DecodingConfig, GenerationError, LmDecoder, SamplerConfig, generate,
};
use reformer_core::huggingface::{self, Head};
use reformer_core::model::{ReformerLm, ReformerLmConfig};
use reformer_core::{Key, Pass};
use reformer_train::{ModelConfig, load_model};

use crate::arrays::{DEVICE, Numbers, floats, integers, padding};
use crate::errors::{exception, reserve};
use crate::json::to_python;
use crate::prompt::{Prompt, checked_tokens};

/// Tensors of `[batch_size, seq_length, d_model]` that exist at a time, about.
const TENSORS_OF_PASS: usize = 14;
/// Time between two looks whether Ctrl-C was pressed.
const PATIENCE: Duration = Duration::from_millis(50);

/// A trained language model, as `load` returns it. It is never changed, and threads can share it.
#[pyclass(name = "ReformerLm", module = "reformer_burn", frozen)]
pub(crate) struct LanguageModel {
    model: ReformerLm<Flex>,
    config: ReformerLmConfig,
    /// Context length of the training, if it is known.
    window_length: Option<usize>,
    /// The token of byte 0, if tokens are bytes.
    first_byte: Option<u32>,
}

/// Loads a language model: the folder of a run, finished or not, or one of Hugging Face with `config.json` and
/// `model.safetensors` or `pytorch_model.bin`.
///
/// Raises FileNotFoundError or another OSError for files that are missing or cannot be read, and ValueError for
/// damaged ones, for settings that are not supported, and for models of other kinds.
#[pyfunction]
pub(crate) fn load(py: Python<'_>, path: PathBuf) -> PyResult<LanguageModel> {
    py.detach(|| LanguageModel::open(&path))
}

impl LanguageModel {
    fn open(folder: &Path) -> PyResult<Self> {
        match huggingface::head(folder) {
            None => Self::open_run(folder),
            Some(Head::Lm) => {
                let (model, config) = huggingface::load(folder, &DEVICE).map_err(exception)?;
                let has_pieces = folder.join("spiece.model").exists();
                let first_byte = huggingface::first_byte(config.reformer.vocab_size);
                Ok(Self {
                    model,
                    config,
                    window_length: None,
                    first_byte: first_byte.filter(|_| !has_pieces),
                })
            }
            Some(Head::Classifier | Head::QuestionAnswering) => {
                Err(PyValueError::new_err(format!(
                    "the model in `{}` has the head of another task: only language models can be loaded",
                    folder.display()
                )))
            }
        }
    }

    fn open_run(folder: &Path) -> PyResult<Self> {
        let (model, run) = load_model(folder, &DEVICE).map_err(exception)?;
        let first_byte = run.continues_texts().then_some(0);
        let window_length = Some(run.window_length);
        let model = model.into_lm().map_err(exception)?;
        let ModelConfig::Lm(config) = run.model else {
            unreachable!("`into_lm` refuses other kinds");
        };
        Ok(Self {
            model,
            config,
            window_length,
            first_byte,
        })
    }

    /// Checks the length of a sequence.
    fn check_length(&self, length: usize) -> PyResult<()> {
        // Positions are counted in 32 bits.
        let limit = self.max_length().unwrap_or(i32::MAX as usize);
        if length > limit {
            let what = "the model has positions for";
            return Err(exception(GenerationError::TooLong {
                length,
                limit,
                what,
            }));
        }
        Ok(())
    }

    /// Checks the memory for reading sequences, in tokens, and for the logits of some positions.
    fn reserve(&self, n_tokens: usize, n_logits: usize) -> PyResult<()> {
        let of_pass = n_tokens.saturating_mul(TENSORS_OF_PASS * self.config.reformer.d_model);
        // A tensor of logits, and what it is computed from or copied to.
        reserve(of_pass.saturating_add(n_logits.saturating_mul(2 * self.vocab_size())))
    }

    /// Continues prompts, each with random numbers of its own.
    fn write_on(
        &self,
        prompt: &Prompt,
        n_tokens: usize,
        sampler: &SamplerConfig,
        seed: u64,
    ) -> Result<Vec<Vec<u32>>, Stopped> {
        let (prompts, never) = (&prompt.sequences, prompt.no_text(self.vocab_size()));
        let mut samplers = Vec::new();
        for (row, prompt) in (0..).zip(prompts) {
            let sampler = sampler.init(Key::new(seed).fold(row));
            let sampler = sampler.map_err(GenerationError::from)?;
            let mut sampler = sampler.without(never.iter().copied());
            sampler.observe(prompt);
            samplers.push(sampler);
        }
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        // The last generated token is not read.
        let length = longest.saturating_add(n_tokens - 1);
        self.check_length(length)?;
        self.reserve(prompts.iter().map(Vec::len).sum(), prompts.len())?;
        let context = self.window_length.unwrap_or(length);
        let decoding = DecodingConfig::new(context).with_max_length(Some(length));
        let (mut decoder, first) = LmDecoder::prefill(&self.model, prompts, &decoding)?;
        let mut written = vec![Vec::new(); prompts.len()];
        let mut last_look = Instant::now();
        generate(
            &mut decoder,
            first,
            &mut samplers,
            n_tokens,
            |row, token| {
                written[row].push(token);
                if last_look.elapsed() > PATIENCE {
                    Python::attach(|py| py.check_signals())?;
                    last_look = Instant::now();
                }
                Ok::<_, Stopped>(ControlFlow::Continue(()))
            },
        )?;
        Ok(written)
    }
}

#[pymethods]
impl LanguageModel {
    /// The configuration as a dict, with the names and forms of a run's `config.json`.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.config)
    }

    /// Number of different tokens.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.config.reformer.vocab_size
    }

    /// Maximum sequence length, or None if there is no limit.
    #[getter]
    fn max_length(&self) -> Option<usize> {
        self.config.reformer.position.max_length()
    }

    /// Logits of all positions, without dropout and with fixed hash rotations: float32 of shape
    /// `(batch_size, seq_length, vocab_size)`.
    ///
    /// `tokens` are whole numbers of shape `(batch_size, seq_length)`. `mask_pad` is True where a position is
    /// padding, which is never attended to.
    ///
    /// Numbers of buckets that follow from a length use the context length of the training for runs, as
    /// `generate` does, and that of `tokens` for Hugging Face models.
    #[pyo3(signature = (tokens, mask_pad = None))]
    fn logits<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
        mask_pad: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let tokens = integers("tokens", tokens)?;
        let shape = tokens.axes("tokens", ["batch_size", "seq_length"])?;
        self.check_length(shape[1])?;
        let tokens = checked_tokens(&tokens.values, self.vocab_size())?;
        self.reserve(tokens.len(), tokens.len())?;
        let mask_pad = padding(mask_pad, shape)?;
        let logits = py.detach(|| {
            let tokens: Vec<i32> = tokens.into_iter().map(|token| token as i32).collect();
            let tokens = Tensor::from_data(TensorData::new(tokens, shape), &DEVICE);
            let pass = Pass::eval()
                .with_context(self.window_length)
                .with_mask_pad(mask_pad);
            Numbers::of(self.model.forward(tokens, &pass))
        });
        logits.into_numpy(py)
    }

    /// Continues a prompt with sampled tokens, and returns the new ones.
    ///
    /// `prompt` is bytes, for a model whose tokens are bytes, and the result is bytes; or an array of tokens of
    /// shape `(seq_length,)` or `(batch_size, seq_length)`, and the result is an array of int64 of shape
    /// `(max_new_tokens,)` or `(batch_size, max_new_tokens)`.
    ///
    /// Sampling applies, in this order: `repetition_penalty` (1 has no effect), `temperature` (0 always takes the
    /// most probable token), `top_k`, `top_p` and `min_p` (None has no effect). The same seed gives the same
    /// tokens; each sequence of a batch has random numbers of its own.
    ///
    /// A cache makes the cost of a token independent of the length before it. Ctrl-C interrupts generation, but
    /// not the reading of the prompt before it.
    #[pyo3(signature = (
        prompt, max_new_tokens, *, temperature = 1.0, top_k = None, top_p = None, min_p = None,
        repetition_penalty = 1.0, seed = 0
    ))]
    #[allow(clippy::too_many_arguments)] // They have names in Python.
    fn generate<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        max_new_tokens: usize,
        temperature: f64,
        top_k: Option<usize>,
        top_p: Option<f64>,
        min_p: Option<f64>,
        repetition_penalty: f64,
        seed: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        if max_new_tokens == 0 {
            return Err(exception(GenerationError::NoTokens));
        }
        let sampler = SamplerConfig {
            repetition_penalty,
            temperature,
            top_k,
            top_p,
            min_p,
        };
        let prompt = Prompt::read(prompt, self.vocab_size(), self.first_byte)?;
        let written = py.detach(|| self.write_on(&prompt, max_new_tokens, &sampler, seed));
        prompt.answer(py, written.map_err(PyErr::from)?)
    }

    /// The same model with other hash rotations: an array for each LSH layer, from the first one on, of shape
    /// `(n_heads, d_head, n_rounds, sum(bucket factors) / 2)`.
    ///
    /// Checkpoints of Hugging Face have none, since it draws new ones in every pass; here they are drawn once,
    /// from `hash_seed`. With the same rotations both compute the same.
    fn with_rotations(&self, rotations: Vec<Bound<'_, PyAny>>) -> PyResult<Self> {
        let n_buckets = &self.config.reformer.lsh.n_buckets;
        if matches!(n_buckets, Buckets::Auto | Buckets::AutoFactored(_)) {
            return Err(PyValueError::new_err(
                "the model's number of buckets follows from the length, and rotations are for a fixed one: \
                 set `n_buckets` (`num_buckets` in Hugging Face) in its config.json",
            ));
        }
        let mut tensors = Vec::new();
        for given in &rotations {
            let numbers = floats("rotations", given)?;
            numbers.axes(
                "rotations",
                ["n_heads", "d_head", "n_rounds", "n_projections"],
            )?;
            tensors.push(numbers.into_tensor());
        }
        let mut model = self.model.clone();
        model.reformer = model.reformer.with_rotations(tensors).map_err(exception)?;
        Ok(Self {
            model,
            config: self.config.clone(),
            ..*self
        })
    }

    fn __repr__(&self) -> String {
        let stack = &self.config.reformer;
        format!(
            "ReformerLm(vocab_size={}, d_model={}, n_layers={})",
            stack.vocab_size, stack.d_model, stack.n_layers
        )
    }
}

/// Why nothing more is generated.
struct Stopped(PyErr);

impl From<PyErr> for Stopped {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

impl From<GenerationError> for Stopped {
    fn from(error: GenerationError) -> Self {
        Self(exception(error))
    }
}

impl From<Stopped> for PyErr {
    fn from(Stopped(error): Stopped) -> Self {
        error
    }
}
