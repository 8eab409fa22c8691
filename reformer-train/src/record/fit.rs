//! Checks whether the tensors of a record fit a module.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::Parameters;
use super::scan::{self, Found};

/// The element type of tensors in records.
const DTYPE: &str = "F32";
const BYTES_OF_NUMBER: u64 = 4;
/// Digits of the longest parameter ID.
const MAX_ID: usize = 13;
/// Maximum number of differences that a message names.
const FEW: usize = 4;
/// Path of the record in its file.
const ROOT: &str = "item";

/// Checks that a record has the tensors of a module, with their shapes, and no others. Returns their
/// shapes by parameter ID.
///
/// # Errors
/// The differences.
pub(super) fn check_module<B: Backend, M: Module<B>>(
    found: &Found,
    module: &M,
) -> Result<Parameters, String> {
    let mut expected = Shapes::default();
    module.visit(&mut expected);
    let mut expected = expected.found;
    let (mut wrong, mut ids) = (Vec::new(), Parameters::new());
    for tensor in &found.tensors {
        match expected.remove(&tensor.path) {
            Some(shape) if shape == tensor.shape => {
                let id = tensor.id.as_deref().unwrap_or_default();
                if ids.insert(id.to_owned(), shape).is_some() {
                    return Err(format!("two of its parameters are called {id:?}"));
                }
            }
            Some(shape) => wrong.push(format!(
                "{} has the shape {:?} instead of {shape:?}",
                name(&tensor.path),
                tensor.shape
            )),
            None => wrong.push(format!("{} is not in the model", name(&tensor.path))),
        }
    }
    let missing = expected.into_keys();
    wrong.extend(missing.map(|path| format!("{} is missing", name(&path))));
    match wrong.is_empty() {
        true => Ok(ids),
        false => Err(few(&wrong)),
    }
}

/// Checks that the state of an optimizer belongs to parameters of these shapes.
///
/// # Errors
/// Tensors that do not belong.
pub(super) fn check_state(found: &Found, parameters: &Parameters) -> Result<(), String> {
    let of_path = |path: &str| -> Result<&Vec<u64>, String> {
        let mut ids = path.split('.').filter_map(|part| parameters.get(part));
        let shape = ids.next();
        shape.ok_or_else(|| format!("{} belongs to no parameter", name(path)))
    };
    for path in &found.ranks {
        let rank = of_path(path)?.len();
        if !path.ends_with(&format!(".Rank{rank}")) {
            return Err(format!(
                "{} is the state of a parameter of rank {rank}",
                name(path)
            ));
        }
    }
    for tensor in &found.tensors {
        let of_parameter = of_path(&tensor.path)?;
        // A mean over a dimension has size 1 there.
        let fits = |(mine, whole): (&u64, &u64)| mine == whole || *mine == 1;
        if tensor.shape.len() != of_parameter.len()
            || !tensor.shape.iter().zip(of_parameter).all(fits)
        {
            return Err(format!(
                "{} has the shape {:?}, and its parameter {of_parameter:?}",
                name(&tensor.path),
                tensor.shape
            ));
        }
    }
    Ok(())
}

/// Checks that tensors have as many bytes as their shapes need, and parameters an ID.
///
/// # Errors
/// The first tensor or parameter that fails.
pub(super) fn check_tensors(found: &Found) -> Result<(), String> {
    found.tensors.iter().try_for_each(|tensor| {
        check_tensor(tensor)?;
        tensor.id.as_deref().map_or(Ok(()), check_id)
    })
}

fn check_tensor(tensor: &scan::Tensor) -> Result<(), String> {
    let scan::Tensor {
        path,
        shape,
        dtype,
        n_bytes,
        ..
    } = tensor;
    let wanted = shape
        .iter()
        .try_fold(BYTES_OF_NUMBER, |bytes, length| bytes.checked_mul(*length));
    if dtype != DTYPE || wanted != Some(*n_bytes) {
        let name = name(path);
        return Err(format!(
            "{name} holds {n_bytes} bytes of {dtype:?} for a shape of {shape:?}"
        ));
    }
    Ok(())
}

/// Burn panics on an invalid parameter ID.
fn check_id(id: &str) -> Result<(), String> {
    match id.len() <= MAX_ID && ParamId::try_deserialize(id).is_some() {
        true => Ok(()),
        false => Err(format!("{id:?} is not the ID of a parameter")),
    }
}

/// The path in the record, without the path of the record itself.
fn name(path: &str) -> &str {
    path.strip_prefix(ROOT)
        .and_then(|path| path.strip_prefix('.'))
        .unwrap_or(path)
}

fn few(all: &[String]) -> String {
    let mut text = all
        .iter()
        .take(FEW)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    if let Some(n_others @ 1..) = all.len().checked_sub(FEW) {
        text.push_str(&format!("; and {n_others} others"));
    }
    text
}

/// Shapes of a module's tensors by their paths in a record, without initialising lazy
/// parameters.
#[derive(Default)]
struct Shapes {
    path: Vec<String>,
    found: BTreeMap<String, Vec<u64>>,
}

impl<B: Backend> ModuleVisitor<B> for Shapes {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let shape = param.lazy_shape().to_vec();
        let shape = shape.into_iter().map(|length| length as u64).collect();
        self.found
            .insert(format!("{ROOT}.{}", self.path.join(".")), shape);
    }
}

/// The same weights with parameters numbered from 0, instead of random IDs: equal weights then give
/// equal files.
pub(crate) fn numbered<B: Backend, M: Module<B>>(module: M) -> M {
    module.map(&mut Number(0))
}

struct Number(u64);

impl<B: Backend> ModuleMapper<B> for Number {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (_, tensor, mapper) = param.consume();
        let id = ParamId::from(self.0);
        self.0 += 1;
        Param::from_mapped_value(id, tensor, mapper)
    }
}
