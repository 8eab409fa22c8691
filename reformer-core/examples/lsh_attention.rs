//! LSH attention as a layer of a Burn model that is not a Reformer: it finds the needle, a pair of
//! equal vectors far apart.
//!
//!     cargo run --release -p reformer-core --example lsh_attention

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor};
use burn_flex::Flex;
use reformer_core::Pass;
use reformer_core::attention::{HeadsConfig, LshAttention, LshAttentionConfig, LshConfig};
use reformer_core::kernels::ReformerBackend;

/// Attention with a linear head.
#[derive(Module, Debug)]
struct Finder<B: Backend> {
    attention: LshAttention<B>,
    head: Linear<B>,
}

impl<B: ReformerBackend> Finder<B> {
    fn new(d_model: usize, device: &B::Device) -> Self {
        // Bidirectional, with eight hash rounds.
        let heads = HeadsConfig::new(d_model, 4).with_causal(false);
        let lsh = LshConfig::new().with_n_rounds(8);
        Self {
            attention: LshAttentionConfig::new(heads, lsh).init(device),
            head: LinearConfig::new(d_model, 2).init(device),
        }
    }

    /// `[batch_size, seq_length, d_model]` to `[batch_size, seq_length, 2]`.
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let attended = self.attention.forward(x, &Pass::eval());
        self.head.forward(attended.output)
    }
}

fn main() {
    let device = Default::default();
    let length = 4096;
    let model = Finder::<Flex>::new(64, &device);

    let x = Tensor::<Flex, 3>::random([1, length, 64], Distribution::Normal(0.0, 1.0), &device);
    let needle = x.clone().slice([0..1, 100..101]);
    let x = x.slice_assign([0..1, 4000..4001, 0..64], needle);
    println!("output: {:?}", model.forward(x.clone()).dims());

    // Equal vectors share a bucket in every round; others only by chance.
    let buckets = model.attention.forward(x, &Pass::eval()).buckets;
    let buckets: Vec<i64> = buckets
        .expect("4,096 positions are hashed")
        .into_data()
        .iter::<i64>()
        .collect();
    let mates = |position: usize| {
        let same = |row: &&[i64]| row[100] == row[position];
        buckets.chunks(length).filter(same).count()
    };
    let all = buckets.len() / length;
    println!(
        "position 100 shares its bucket with 4000 in {} of {all} rounds of heads",
        mates(4000)
    );
    println!("and with 4001 in {} of them", mates(4001));
    assert_eq!(mates(4000), all);
}
