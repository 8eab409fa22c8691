//! Arrays from and to numpy.

use numpy::{Element, PyArray1, PyArrayDyn, PyArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use reformer_core::burn::tensor::backend::Backend;
use reformer_core::burn::tensor::{Bool, Tensor, TensorData};
use reformer_core::burn_flex::{Flex, FlexDevice};

/// The CPU.
pub(crate) const DEVICE: FlexDevice = FlexDevice;

/// A copy of an array's numbers, in row-major order.
pub(crate) struct Numbers<T> {
    pub(crate) values: Vec<T>,
    pub(crate) shape: Vec<usize>,
}

/// Reads whole numbers of any type.
///
/// # Errors
/// A `TypeError` for what holds no whole numbers; `name` is that of the argument.
pub(crate) fn integers(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Numbers<i64>> {
    read(name, given, "iu", "whole numbers")
}

/// Reads numbers of any type as `float32`.
///
/// # Errors
/// A `TypeError` for what holds no numbers.
pub(crate) fn floats(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Numbers<f32>> {
    read(name, given, "fiu", "numbers")
}

/// Reads the padding of sequences.
///
/// # Errors
/// An array that holds something else than booleans, or has another shape than the sequences.
pub(crate) fn padding<B: Backend<Device = FlexDevice>>(
    given: Option<&Bound<'_, PyAny>>,
    [batch_size, seq_length]: [usize; 2],
) -> PyResult<Option<Tensor<B, 2, Bool>>> {
    let Some(given) = given else { return Ok(None) };
    let mask: Numbers<bool> = read("mask_pad", given, "b", "booleans")?;
    mask.expect_shape("mask_pad", &[batch_size, seq_length])?;
    let data = TensorData::new(mask.values, mask.shape);
    Ok(Some(Tensor::from_data(data, &DEVICE)))
}

/// Reads whatever numpy makes an array of whose `dtype.kind` is among `kinds`.
fn read<T: Element + Copy>(
    name: &str,
    given: &Bound<'_, PyAny>,
    kinds: &str,
    what: &str,
) -> PyResult<Numbers<T>> {
    let py = given.py();
    let numpy = py.import("numpy")?;
    let array = numpy.call_method1("asarray", (given,))?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    let dtype = array.getattr("dtype")?;
    let kind: String = dtype.getattr("kind")?.extract()?;
    // An empty list is an array of floats to numpy.
    if !kinds.contains(&kind) && !shape.contains(&0) {
        let message = format!("`{name}` is an array of {dtype}, but it must hold {what}");
        return Err(PyTypeError::new_err(message));
    }
    let wanted = (&array, T::get_dtype(py));
    let array = numpy.call_method1("ascontiguousarray", wanted)?;
    let array = array.cast_into::<PyArrayDyn<T>>()?.try_readonly();
    let array = array.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let values = array.as_slice().map(<[T]>::to_vec);
    let values = values.map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(Numbers { values, shape })
}

impl<T> Numbers<T> {
    /// The lengths of the axes, of which none is empty.
    ///
    /// # Errors
    /// A `ValueError` for another number of axes, or for an empty one.
    pub(crate) fn axes<const D: usize>(
        &self,
        name: &str,
        wanted: [&str; D],
    ) -> PyResult<[usize; D]> {
        let axes: Option<[usize; D]> = self.shape.as_slice().try_into().ok();
        axes.filter(|axes| !axes.contains(&0)).ok_or_else(|| {
            let wanted = wanted.join(", ");
            PyValueError::new_err(format!(
                "`{name}` has shape {:?}, but it must be [{wanted}] with no empty axis",
                self.shape
            ))
        })
    }

    /// Checks the shape.
    ///
    /// # Errors
    /// A `ValueError` for another one.
    pub(crate) fn expect_shape(&self, name: &str, wanted: &[usize]) -> PyResult<()> {
        if self.shape == wanted {
            return Ok(());
        }
        let message = format!(
            "`{name}` has shape {:?}, but it must be {wanted:?}",
            self.shape
        );
        Err(PyValueError::new_err(message))
    }
}

impl Numbers<f32> {
    /// The same as a tensor of as many axes.
    pub(crate) fn into_tensor<B: Backend<Device = FlexDevice>, const D: usize>(
        self,
    ) -> Tensor<B, D> {
        Tensor::from_data(TensorData::new(self.values, self.shape), &DEVICE)
    }

    /// The numbers of a tensor.
    pub(crate) fn of<const D: usize>(tensor: Tensor<Flex, D>) -> Self {
        let shape = tensor.dims().to_vec();
        let values = tensor.into_data().into_vec();
        let values = values.expect("tensors of weights and logits are f32");
        Self { values, shape }
    }
}

impl<T: Element> Numbers<T> {
    /// The same as a numpy array, which owns the numbers.
    pub(crate) fn into_numpy(self, py: Python<'_>) -> PyResult<Bound<'_, PyArrayDyn<T>>> {
        PyArray1::from_vec(py, self.values).reshape(self.shape)
    }
}
