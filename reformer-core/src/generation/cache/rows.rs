//! Cached keys and values, as rows of tensors that grow.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use crate::attention::Heads;
use crate::kernels::ReformerBackend;

/// Initial number of rows of a cache.
const FEWEST: usize = 64;

/// Keys and values: `[batch_size, n_heads, n_rows, d]` each.
#[derive(Debug, Clone)]
pub(super) struct KeysValues<B: Backend> {
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    /// Maximum number of rows.
    most: usize,
}

impl<B: ReformerBackend> KeysValues<B> {
    /// Caches the keys and values of the first positions, in order.
    pub(super) fn new(k: Tensor<B, 4>, v: Tensor<B, 4>, most: usize) -> Self {
        Self {
            k: around(k, most),
            v: around(v, most),
            most,
        }
    }

    /// An empty cache for as many sequences as in `like`, with the same type.
    ///
    /// # Shapes
    /// - like: `[batch_size, seq_length, d_model]`
    pub(super) fn empty(heads: &Heads<B>, like: &Tensor<B, 3>, most: usize) -> Self {
        let [batch_size, ..] = like.dims();
        let rows = |width: usize| {
            let shape = [
                batch_size,
                heads.n_heads,
                most.min(FEWEST),
                width / heads.n_heads,
            ];
            Tensor::<B, 4>::zeros(shape, &like.device()).cast(like.dtype())
        };
        Self {
            k: rows(heads.query.weight.dims()[1]),
            v: rows(heads.value.weight.dims()[1]),
            most,
        }
    }

    /// Memory of a row in the type of the weights, in bytes; less in half precision.
    pub(super) fn bytes_of_row(heads: &Heads<B>) -> usize {
        let [keys, values] = [&heads.query, &heads.value].map(|linear| linear.weight.dims()[1]);
        (keys + values) * heads.query.weight.dtype().size()
    }

    /// Writes one row of each sequence.
    ///
    /// # Shapes
    /// - rows: `[batch_size]`
    /// - k, v: `[batch_size, n_heads, 1, d]`
    pub(super) fn write(&mut self, rows: &[usize], k: Tensor<B, 4>, v: Tensor<B, 4>) {
        let last = rows.iter().copied().max().unwrap_or(0);
        let n_rows = self.k.dims()[2];
        if last >= n_rows {
            self.grow(
                (2 * n_rows)
                    .max(FEWEST)
                    .clamp(last + 1, self.most.max(last + 1)),
            );
        }
        self.k.inplace(|cache| B::write_rows(cache, rows, k));
        self.v.inplace(|cache| B::write_rows(cache, rows, v));
    }

    /// Grows to this number of rows.
    fn grow(&mut self, n_rows: usize) {
        for cache in [&mut self.k, &mut self.v] {
            cache.inplace(|cache| {
                let [batch_size, n_heads, rows, d] = cache.dims();
                let shape = [batch_size, n_heads, n_rows - rows, d];
                let more = Tensor::<B, 4>::zeros(shape, &cache.device()).cast(cache.dtype());
                Tensor::cat(vec![cache, more], 2)
            });
        }
    }

    /// Cached keys and values.
    pub(super) fn both(&self) -> [Tensor<B, 4>; 2] {
        [self.k.clone(), self.v.clone()]
    }

    /// Continues with these sequences.
    pub(super) fn select(&mut self, rows: &[usize]) {
        let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let rows = Tensor::<B, 1, Int>::from_ints(rows.as_slice(), &self.k.device());
        for cache in [&mut self.k, &mut self.v] {
            cache.inplace(|cache| cache.select(0, rows.clone()));
        }
    }

    /// Joins several caches into that of a batch.
    pub(super) fn join(mut caches: Vec<Self>) -> Self {
        let n_rows = caches.iter().map(|cache| cache.k.dims()[2]).max();
        let n_rows = n_rows.unwrap_or(0);
        for cache in &mut caches {
            if cache.k.dims()[2] < n_rows {
                cache.grow(n_rows);
            }
        }
        let most = caches.iter().map(|cache| cache.most).max().unwrap_or(0);
        let (k, v) = caches.into_iter().map(|cache| (cache.k, cache.v)).unzip();
        Self {
            k: Tensor::cat(k, 0),
            v: Tensor::cat(v, 0),
            most,
        }
    }

    /// Bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |cache: &Tensor<B, 4>| cache.shape().num_elements() * cache.dtype().size();
        bytes(&self.k) + bytes(&self.v)
    }
}

/// The last `most` positions; position `n` has row `n % most`.
fn around<B: Backend>(cache: Tensor<B, 4>, most: usize) -> Tensor<B, 4> {
    let n = cache.dims()[2];
    if n <= most {
        // A tensor with its own memory: a view would be copied whenever a row is written.
        let (shape, device, dtype) = (cache.dims(), cache.device(), cache.dtype());
        let data = TensorData {
            shape: shape.into(),
            ..cache.into_data()
        };
        return Tensor::from_data(data, (&device, dtype));
    }
    let first = n - most;
    let turn = n - first % most;
    let [newer, older] = [turn..n, first..turn].map(|part| cache.clone().slice_dim(2, part));
    Tensor::cat(vec![newer, older], 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::DType;
    use burn_flex::Flex;

    fn numbered(n: usize) -> Tensor<Flex, 4> {
        let numbers = Tensor::<Flex, 1, Int>::arange(0..n as i64, &Default::default());
        numbers.float().reshape([1, 1, n, 1])
    }

    fn rows(cache: &KeysValues<Flex>) -> Vec<f32> {
        cache.k.to_data().to_vec().unwrap()
    }

    #[test]
    fn rows_go_around() {
        for n in [1, 4, 5, 6, 7, 8, 9, 23] {
            let cache = KeysValues::new(numbered(n), numbered(n), 5);
            for (row, &position) in rows(&cache).iter().enumerate() {
                let position = position as usize;
                assert_eq!(position % 5, row, "{n}");
                assert!(position + 5 >= n && position < n);
            }
        }
    }

    #[test]
    fn short_and_long_beginnings_have_the_type_of_the_model() {
        let cache = |n: usize| {
            let half = || numbered(n).cast(DType::BF16);
            KeysValues::new(half(), half(), 5)
        };
        let joined = KeysValues::join(vec![cache(3), cache(8)]);
        assert_eq!(joined.k.dtype(), DType::BF16);
        assert_eq!(joined.bytes(), 2 * 2 * 5 * 2);
    }

    #[test]
    fn cache_grows_to_its_limit_and_keeps_what_is_there() {
        let mut cache = KeysValues::new(numbered(3), numbered(3), 70);
        let one = || numbered(1) + 7;
        cache.write(&[3], one(), one());
        assert_eq!(rows(&cache).len(), 64);
        assert_eq!(rows(&cache)[..5], [0.0, 1.0, 2.0, 7.0, 0.0]);
        cache.write(&[64], one(), one());
        assert_eq!(rows(&cache).len(), 70);
        assert_eq!(cache.bytes(), 2 * 70 * 4);
    }
}
