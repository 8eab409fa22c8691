//! A training step: from the loss through the decoder and the encoder back to the tokens.

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor};

use super::{ReformerSeq2Seq, Seq2SeqInput};
use crate::chunks::Filling;
use crate::kernels::TrainBackend;
use crate::model::loss::{LmLoss, gradients_in_chunks};
use crate::model::stack_tape::mean;
use crate::pass::{Pass, Source};
use crate::reversible::{GradientSum, pull_back};

impl<A: TrainBackend> ReformerSeq2Seq<A> {
    /// Mean loss of the targets, and the gradients of all parameters. Negative targets are ignored.
    ///
    /// The [mode](Self::mode) determines the memory. With a tape, only the last streams of both
    /// stacks are kept, whatever the number of blocks. Every decoder block adds to the gradient of
    /// the encoder's output, which is then passed through the encoder. Logits exist for one chunk
    /// at a time.
    ///
    /// # Shapes
    /// - targets: `[batch_size, target_length]`
    pub fn gradients(
        &self,
        input: Seq2SeqInput<A>,
        targets: Tensor<A, 2, Int>,
        pass: Pass<A>,
    ) -> (LmLoss<A::InnerBackend>, GradientsParams) {
        self.scaled_gradients(input, targets, pass, 1.0)
    }

    /// As [`gradients`](Self::gradients), with all gradients multiplied by `scale` before they pass
    /// through the blocks: in [`f16`](crate::Precision::F16) small ones would otherwise become
    /// zero. The loss is not scaled.
    ///
    /// # Shapes
    /// - targets: `[batch_size, target_length]`
    pub fn scaled_gradients(
        &self,
        input: Seq2SeqInput<A>,
        targets: Tensor<A, 2, Int>,
        pass: Pass<A>,
        scale: f64,
    ) -> (LmLoss<A::InnerBackend>, GradientsParams) {
        if !self.mode.is_recomputed() {
            let loss = self.loss(input, targets, &pass);
            let scaled = loss.loss.clone() * scale;
            let gradients = GradientsParams::from_grads(scaled.backward(), self);
            return (loss.inner(), gradients);
        }
        self.gradients_by_tape(input, targets, pass, scale)
    }

    fn gradients_by_tape(
        &self,
        input: Seq2SeqInput<A>,
        targets: Tensor<A, 2, Int>,
        pass: Pass<A>,
        scale: f64,
    ) -> (LmLoss<A::InnerBackend>, GradientsParams) {
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
        let encoded = Tensor::<A, 3>::from_inner(encoded).require_grad();
        let hidden = self.encoder.normalize(encoded.clone(), &encoder_pass);
        let gradient = pull_back(hidden, encoded, gradient, &self.encoder.norm, &mut sum);
        let encoder = self
            .encoder
            .backward(encoder_tape, embedding, gradient, &mut sum);
        let drift = Some(decoder.drift.max_pair(encoder.drift));
        (LmLoss { drift, ..loss }, sum.into_params())
    }
}
