//! LSH attention as a layer for numpy.

use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::PyArrayDyn;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use reformer_core::attention::{HeadsConfig, LshAttention, LshAttentionConfig, LshConfig};
use reformer_core::burn::module::Param;
use reformer_core::burn::tensor::Tensor;
use reformer_core::burn::tensor::backend::Backend;
use reformer_core::burn_autodiff::Autodiff;
use reformer_core::burn_flex::{Flex, FlexDevice};
use reformer_core::model::ReformerConfig;
use reformer_core::position::PositionConfig;
use reformer_core::{ConfigError, Key, Pass};
use serde_json::Value;

use crate::arrays::{DEVICE, Numbers, floats, padding};
use crate::errors::{exception, reserve};
use crate::json::{from_python, to_python};

/// Names of the weights in Python.
const WEIGHTS: [&str; 3] = ["query", "value", "output"];
/// Tensors as wide as the input or the heads that exist at a time, about.
const TENSORS_OF_PASS: usize = 14;

/// What no two threads may do at a time: build a graph for gradients, since Burn frees what looks unused in all
/// graphs of the process after each backward pass; and draw from Burn's generator, which the process shares.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Self-attention by locality-sensitive hashing, with projections into heads and back.
///
/// `d_model` is the width of input and output, `n_heads` the number of heads. The other settings are those of a
/// configuration: `d_head`, `causal`, `dropout`, `logit_scale`, `query_length`, `rotary_base`, `initializer`;
/// `n_rounds`, `local_round`, `hash_rotated`, `n_buckets`, `chunk_length`, `window`, `duplicates`, `wrap_rounds`,
/// `exact_up_to`, `fixed_rotations`; and `hash_seed`. Choices have the form of `config.json`, such as
/// `n_buckets={"Count": 32}` or `exact_up_to="Never"`; `config` shows all of them. The settings of a model's layers
/// can be given as they are: `**model.config["reformer"]["lsh"]`.
///
/// Initial weights are drawn from `seed`. A layer is never changed, and threads can share it.
///
/// Raises ValueError for settings that cannot work, and TypeError for unknown ones.
#[pyclass(name = "LshAttention", module = "reformer_burn", frozen)]
pub(crate) struct Attention {
    config: LshAttentionConfig,
    /// Of the queries, the values and the output.
    weights: [Tensor<Flex, 2>; 3],
}

/// The pass of `seed`, or that of evaluation without one.
fn pass<B: Backend<Device = FlexDevice>>(
    x: &Numbers<f32>,
    mask_pad: Option<&Bound<'_, PyAny>>,
    seed: Option<u64>,
) -> PyResult<Pass<B>> {
    let pass = match seed {
        Some(seed) => Pass::train(Key::new(seed)),
        None => Pass::eval(),
    };
    Ok(pass.with_mask_pad(padding(mask_pad, [x.shape[0], x.shape[1]])?))
}

impl Attention {
    fn init(config: LshAttentionConfig, seed: u64) -> PyResult<Self> {
        check(&config).map_err(exception)?;
        let heads = &config.heads;
        reserve(3 * heads.d_model * heads.n_heads * heads.head_width())?;
        let _alone = alone();
        Flex::seed(&DEVICE, seed);
        let heads = config.init::<Flex>(&DEVICE).heads;
        let weights = [&heads.query, &heads.value, &heads.output].map(|linear| linear.weight.val());
        Ok(Self { config, weights })
    }

    /// The layer with these weights.
    fn layer<B: Backend<Device = FlexDevice>>(
        &self,
        weights: [Tensor<B, 2>; 3],
    ) -> LshAttention<B> {
        let mut layer = self.config.init(&DEVICE);
        let heads = &mut layer.heads;
        let places = [&mut heads.query, &mut heads.value, &mut heads.output];
        for (linear, weight) in places.into_iter().zip(weights) {
            linear.weight = Param::from_tensor(weight);
        }
        layer
    }

    /// Reads an input, and checks it.
    fn input(&self, x: &Bound<'_, PyAny>) -> PyResult<Numbers<f32>> {
        let x = floats("x", x)?;
        let heads = &self.config.heads;
        let [batch_size, seq_length, _] = x.axes("x", ["batch_size", "seq_length", "d_model"])?;
        x.expect_shape("x", &[batch_size, seq_length, heads.d_model])?;
        let width = heads.d_model + heads.n_heads * heads.head_width();
        reserve((batch_size * seq_length).saturating_mul(width * TENSORS_OF_PASS))?;
        Ok(x)
    }
}

#[pymethods]
impl Attention {
    #[new]
    #[pyo3(signature = (d_model, n_heads, *, seed = 0, **settings))]
    fn new(
        py: Python<'_>,
        d_model: usize,
        n_heads: usize,
        seed: u64,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let config = configure(d_model, n_heads, settings)?;
        py.detach(|| Self::init(config, seed))
    }

    /// The configuration as a dict: `heads`, `lsh` and `hash_seed`.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.config)
    }

    /// Copies of the weights: `query` and `value` of shape `(d_model, n_heads * d_head)`, `output` of shape
    /// `(n_heads * d_head, d_model)`. A projection is `x @ weight`.
    #[getter]
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        by_name(py, self.weights.clone().map(Numbers::of))
    }

    /// The same layer with other weights, a dict like `weights`.
    fn with_weights(&self, weights: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut changed = self.weights.clone();
        if weights.len() != WEIGHTS.len() {
            let message = format!(
                "`weights` has {} entries, but it must have {WEIGHTS:?}",
                weights.len()
            );
            return Err(PyValueError::new_err(message));
        }
        for (name, weight) in WEIGHTS.into_iter().zip(&mut changed) {
            let given = weights.get_item(name)?;
            let given =
                given.ok_or_else(|| PyValueError::new_err(format!("`weights` has no `{name}`")))?;
            let numbers = floats(name, &given)?;
            numbers.expect_shape(name, &weight.dims())?;
            *weight = numbers.into_tensor();
        }
        Ok(Self {
            config: self.config.clone(),
            weights: changed,
        })
    }

    /// Attends: `x` and the result have shape `(batch_size, seq_length, d_model)`, the result is float32.
    ///
    /// `mask_pad`, of shape `(batch_size, seq_length)`, is True where a position is padding, which is never
    /// attended to. With a `seed`, the layer hashes and drops as in a step of training: by random numbers of that
    /// seed. Without one, it hashes with the rotations of `hash_seed` and drops nothing.
    #[pyo3(signature = (x, *, mask_pad = None, seed = None))]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        mask_pad: Option<&Bound<'py, PyAny>>,
        seed: Option<u64>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let x = self.input(x)?;
        let pass = pass(&x, mask_pad, seed)?;
        let output = py.detach(|| {
            let layer = self.layer::<Flex>(self.weights.clone());
            Numbers::of(layer.forward(x.into_tensor(), &pass).output)
        });
        output.into_numpy(py)
    }

    /// Gradients of a loss with respect to `x` and to the weights, from its gradient `grad` with respect to the
    /// output: `(grad_x, grad_weights)`, the second a dict like `weights`.
    ///
    /// `x`, `mask_pad` and `seed` are those of `forward`, which is computed again: nothing is kept in between.
    /// Hashing has no gradient. One thread of the process at a time computes gradients; others wait.
    #[pyo3(signature = (x, grad, *, mask_pad = None, seed = None))]
    fn backward<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        grad: &Bound<'py, PyAny>,
        mask_pad: Option<&Bound<'py, PyAny>>,
        seed: Option<u64>,
    ) -> PyResult<(Bound<'py, PyArrayDyn<f32>>, Bound<'py, PyDict>)> {
        let x = self.input(x)?;
        let grad = floats("grad", grad)?;
        grad.expect_shape("grad", &x.shape)?;
        let pass = pass(&x, mask_pad, seed)?;
        let (of_x, of_weights) = py.detach(|| self.gradients(x, grad, &pass));
        Ok((of_x.into_numpy(py)?, by_name(py, of_weights)?))
    }

    fn __repr__(&self) -> String {
        let HeadsConfig {
            d_model, n_heads, ..
        } = &self.config.heads;
        format!("LshAttention(d_model={d_model}, n_heads={n_heads})")
    }
}

impl Attention {
    fn gradients(
        &self,
        x: Numbers<f32>,
        grad: Numbers<f32>,
        pass: &Pass<Autodiff<Flex>>,
    ) -> (Numbers<f32>, [Numbers<f32>; 3]) {
        type Tracked<const D: usize> = Tensor<Autodiff<Flex>, D>;
        let _alone = alone();
        let x: Tracked<3> = x.into_tensor().require_grad();
        let weights = self.weights.clone();
        let weights = weights.map(|weight| Tracked::from_inner(weight).require_grad());
        let output = self.layer(weights.clone()).forward(x.clone(), pass).output;
        let gradients = (output * grad.into_tensor()).sum().backward();
        let of = |tensor: &Tracked<2>| {
            let gradient = tensor.grad(&gradients);
            Numbers::of(gradient.unwrap_or_else(|| tensor.clone().inner().zeros_like()))
        };
        let of_x = x.grad(&gradients).unwrap_or_else(|| x.inner().zeros_like());
        (Numbers::of(of_x), weights.each_ref().map(of))
    }
}

/// Arrays under the names of the weights.
fn by_name(py: Python<'_>, numbers: [Numbers<f32>; 3]) -> PyResult<Bound<'_, PyDict>> {
    let named = PyDict::new(py);
    for (name, numbers) in WEIGHTS.into_iter().zip(numbers) {
        named.set_item(name, numbers.into_numpy(py)?)?;
    }
    Ok(named)
}

/// The default configuration with some settings changed, which are looked for in all its parts.
fn configure(
    d_model: usize,
    n_heads: usize,
    settings: Option<&Bound<'_, PyDict>>,
) -> PyResult<LshAttentionConfig> {
    let mut config = LshAttentionConfig::new(HeadsConfig::new(d_model, n_heads), LshConfig::new());
    for (name, value) in settings.into_iter().flatten() {
        let name: String = name.extract()?;
        let refused =
            |error: serde_json::Error| PyValueError::new_err(format!("`{name}`: {error}"));
        let mut json = serde_json::to_value(&config).map_err(refused)?;
        let setting = find(&mut json, &name).ok_or_else(|| {
            let message = format!(
                "LshAttention has no setting `{name}`: `help(LshAttention)` names all of them"
            );
            PyTypeError::new_err(message)
        })?;
        *setting = from_python(&value)?;
        config = serde_json::from_value(json).map_err(refused)?;
    }
    Ok(config)
}

/// A setting of a configuration, or of its parts.
fn find<'a>(config: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let has = |part: &&str| config[part].get(name).is_some();
    match ["heads", "lsh"].into_iter().find(has) {
        Some(part) => config[part].get_mut(name),
        None => config.get_mut(name),
    }
}

/// Checks every setting, and sizes with the limits of a model that has only this layer.
fn check(config: &LshAttentionConfig) -> Result<(), ConfigError> {
    let HeadsConfig {
        d_model,
        n_heads,
        d_head,
        causal,
        dropout,
        logit_scale,
        query_length,
        rotary_base,
        initializer,
    } = &config.heads;
    let position = rotary_base.map_or(PositionConfig::None, |base| PositionConfig::Rotary { base });
    ReformerConfig::new(1, *d_model, 1)
        .with_n_heads(*n_heads)
        .with_d_head(*d_head)
        .with_d_ff(Some(1))
        .with_causal(*causal)
        .with_attention_dropout(*dropout)
        .with_logit_scale(*logit_scale)
        .with_query_length(*query_length)
        .with_position(position)
        .with_initializer(initializer.clone())
        .with_lsh(config.lsh.clone())
        .validate()
}
