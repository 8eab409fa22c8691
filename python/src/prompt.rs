//! Prompts in the forms that Python gives them in, and answers in the same form.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::arrays::{Numbers, integers};

/// Number of different bytes.
const N_BYTES: usize = 256;

/// Sequences to be continued.
pub(crate) struct Prompt {
    pub(crate) sequences: Vec<Vec<u32>>,
    form: Form,
}

/// The form in which a prompt was given.
enum Form {
    /// Bytes, with the token of byte 0.
    Bytes(u32),
    /// An array of the tokens of a sequence.
    Sequence,
    /// An array of several sequences of equal length.
    Batch,
}

/// Checks tokens, and converts them.
///
/// # Errors
/// A `ValueError` for a token outside of the vocabulary.
pub(crate) fn checked_tokens(numbers: &[i64], vocab_size: usize) -> PyResult<Vec<u32>> {
    let token = |&number: &i64| {
        let token = u32::try_from(number).ok();
        let token = token.filter(|&token| (token as usize) < vocab_size);
        token.ok_or_else(|| {
            let most = vocab_size - 1;
            let message = format!(
                "token {number} is outside of the vocabulary: use numbers from 0 to {most}"
            );
            PyValueError::new_err(message)
        })
    };
    numbers.iter().map(token).collect()
}

impl Prompt {
    /// Reads bytes, or an array of one or two axes. `first_byte` is the token of byte 0, if tokens are bytes.
    ///
    /// # Errors
    /// Another type, bytes for a model of other tokens, an empty array, or a token outside of the vocabulary.
    pub(crate) fn read(
        given: &Bound<'_, PyAny>,
        vocab_size: usize,
        first_byte: Option<u32>,
    ) -> PyResult<Self> {
        if given.is_instance_of::<PyString>() {
            let message = "`prompt` is a str, but it must be bytes or an array of tokens: use `prompt.encode()`";
            return Err(PyTypeError::new_err(message));
        }
        if let Ok(bytes) = given.cast::<PyBytes>() {
            let first = first_byte.ok_or_else(|| {
                let message = "the model's tokens are not bytes: give the tokens of its tokenizer as an array";
                PyValueError::new_err(message)
            })?;
            let tokens = bytes.as_bytes().iter().map(|&byte| first + u32::from(byte));
            return Ok(Self {
                sequences: vec![tokens.collect()],
                form: Form::Bytes(first),
            });
        }
        let numbers = integers("prompt", given)?;
        let (form, length) = match numbers.shape.len() {
            1 => (Form::Sequence, numbers.axes("prompt", ["seq_length"])?[0]),
            _ => {
                let [_, length] = numbers.axes("prompt", ["batch_size", "seq_length"])?;
                (Form::Batch, length)
            }
        };
        let tokens = checked_tokens(&numbers.values, vocab_size)?;
        Ok(Self {
            sequences: tokens.chunks(length).map(<[u32]>::to_vec).collect(),
            form,
        })
    }

    /// Tokens that an answer in the form of this prompt cannot hold.
    pub(crate) fn no_text(&self, vocab_size: usize) -> Vec<u32> {
        let Form::Bytes(first) = self.form else {
            return Vec::new();
        };
        let bytes = first..first + N_BYTES as u32;
        let all = 0..vocab_size as u32;
        all.filter(|token| !bytes.contains(token)).collect()
    }

    /// The new tokens of each sequence, equally many, in the form of the prompt.
    pub(crate) fn answer<'py>(
        &self,
        py: Python<'py>,
        written: Vec<Vec<u32>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tokens = written.concat().into_iter();
        let shape = match self.form {
            Form::Bytes(first) => {
                let bytes: Vec<u8> = tokens.map(|token| (token - first) as u8).collect();
                return Ok(PyBytes::new(py, &bytes).into_any());
            }
            Form::Sequence => vec![tokens.len()],
            Form::Batch => vec![written.len(), tokens.len() / written.len()],
        };
        let values = tokens.map(i64::from).collect();
        Ok(Numbers { values, shape }.into_numpy(py)?.into_any())
    }
}
