import DLCGraph
import DLCTensor

enum Generative {
  static let models: [ZooModel] = [
    Equations.model(
      "generative/vae", "C1: variational autoencoder",
      [("n", 4), ("d", 12), ("h", 8), ("q", 3)], VAE.fill),
    Equations.model(
      "generative/gan", "C2: generative adversarial network",
      [("n", 4), ("d", 5), ("h", 8), ("q", 3), ("g", 7)], GAN.fill),
    Equations.model(
      "generative/ddpm", "C3: denoising diffusion, 1000 steps", [("n", 4), ("d", 5), ("h", 16)],
      Diffusion.fill),
    Equations.model(
      "generative/flow", "C4: four affine couplings and a linear layer",
      [("n", 4), ("d", 5), ("h", 8)], Flow.fill),
    Equations.model(
      "generative/autoregressive", "C5: masked attention over tokens",
      [("n", 3), ("T", 6), ("V", 7), ("d", 8)], Autoregressive.fill),
    Equations.model(
      "generative/ebm", "C6: energy-based model", [("n", 4), ("d", 3), ("h", 8)], EnergyBased.fill),
    Equations.model(
      "generative/rbm", "C7: restricted Boltzmann machine", [("n", 4), ("d", 6), ("k", 5)],
      BoltzmannMachine.fill),
    Equations.model(
      "generative/score", "C8: denoising score matching", [("n", 4), ("d", 3), ("h", 16)],
      Score.fill),
    Equations.model(
      "generative/gmm", "C9: Gaussian mixture, EM as one loop",
      [("n", 32), ("d", 2), ("k", 3), ("iterations", 10)], Mixture.fill),
    Equations.model(
      "generative/sampler", "C10: the next token from logits", [("n", 4), ("V", 11)], Sampler.fill),
  ]

  /// The functions of a file that all draw from one seed.
  static func random(_ g: FunctionBuilder) -> RandomStream {
    RandomStream(g, key: g.input("seed", .int64))
  }
}
