//! The loss, and a training step: from the loss through the decoder and the encoder back to the tokens.

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor};

use super::{ReformerSeq2Seq, Seq2SeqInput};
use crate::chunks::Filling;
use crate::kernels::{ReformerBackend, TrainBackend};
use crate::model::loss::{LossOutput, gradients_in_chunks, loss_in_chunks};
use crate::model::stack_tape::mean;
use crate::model::trainable::{Loss, Trainable, gradients_by_graph};
use crate::pass::{Pass, Source};
use crate::reversible::{GradientSum, pull_back};

impl<B: ReformerBackend> Loss<B> for ReformerSeq2Seq<B> {
    /// Input and targets, of which negative ones are ignored: `[batch_size, target_length]`.
    type Batch = (Seq2SeqInput<B>, Tensor<B, 2, Int>);

    fn loss(&self, (input, targets): Self::Batch, pass: &Pass<B>) -> LossOutput<B> {
        let source = self.encode(input.source, input.source_mask_pad, pass);
        let pass = Self::decoder_pass(pass, input.input_mask_pad, source);
        let streams = self
            .decoder
            .streams(&self.embedding, input.inputs, &pass, self.mode);
        let hidden = mean(streams);
        loss_in_chunks(targets, self.loss_chunk_length, |chunk, range| {
            self.logits(hidden.clone().slice_dim(1, range), chunk, &pass)
        })
    }
}

impl<B: TrainBackend> Trainable<B> for ReformerSeq2Seq<B> {
    /// The [mode](ReformerSeq2Seq::mode) determines the memory. With a tape, only the last streams of
    /// both stacks are kept, whatever the number of blocks. Every decoder block adds to the gradient
    /// of the encoder's output, which is then passed through the encoder. Logits exist for one chunk
    /// at a time.
    fn scaled_gradients(
        &self,
        batch: Self::Batch,
        pass: Pass<B>,
        scale: f64,
    ) -> (LossOutput<B::InnerBackend>, GradientsParams) {
        if !self.mode.is_recomputed() {
            return gradients_by_graph(self, batch, &pass, scale);
        }
        let (input, targets) = batch;
        let mut sum = GradientSum::new();
        let embedding = &self.embedding;

        let encoder_pass = Self::encoder_pass(&pass, input.source_mask_pad.clone());
        let (encoder_tape, streams) =
            self.encoder
                .record(embedding, input.source, encoder_pass.clone(), self.mode);
        let encoded = mean(streams);
        let hidden = self
            .encoder
            .valid()
            .normalize(encoded.clone(), &encoder_pass.inner());
        let source = Source {
            hidden: Tensor::from_inner(hidden),
            mask_pad: input.source_mask_pad,
        };

        let decoder_pass = Self::decoder_pass(&pass, input.input_mask_pad, source);
        let (decoder_tape, streams) =
            self.decoder
                .record(embedding, input.inputs, decoder_pass.clone(), self.mode);
        let decoded = mean(streams);
        let mut gradient = Filling::new(targets.dims()[1]);
        let loss = gradients_in_chunks(
            (targets.inner(), scale),
            self.loss_chunk_length,
            move |range| decoded.clone().slice_dim(1, range),
            |chunk, streams| self.logits(streams, chunk, &decoder_pass),
            self,
            &mut sum,
            |range, chunk| gradient.put(range, chunk),
        );
        let gradient = gradient.finish().expect("positions have gradients");

        let decoder = self
            .decoder
            .backward(decoder_tape, embedding, gradient, &mut sum);
        let gradient = decoder.source.unwrap_or_else(|| encoded.zeros_like());
        let encoded = Tensor::<B, 3>::from_inner(encoded).require_grad();
        let hidden = self.encoder.normalize(encoded.clone(), &encoder_pass);
        let gradient = pull_back(hidden, encoded, gradient, &self.encoder.norm, &mut sum);
        let encoder = self
            .encoder
            .backward(encoder_tape, embedding, gradient, &mut sum);
        let drift = Some(decoder.drift.max_pair(encoder.drift));
        (LossOutput { drift, ..loss }, sum.into_params())
    }
}
