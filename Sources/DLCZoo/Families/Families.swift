import DLCGraph
import DLCTensor
import DLCTraining

/// One realistic model of each family, with the recipe that trains it on real data: fashion images
/// [n, 784], digits [n, 64] of 17 grey levels, or characters [n, T]. Pixels are from 0 to 1.
///
/// Functions are `loss` or the phases of the recipe, `evaluate`, and `predict` or `sample`. What draws
/// random numbers has an input `seed`.
enum Families {
  static let models: [ZooModel] =
    trained(
      on: "fashion",
      [
        FeedForward.model, ConvolutionalNetwork.model, Encoder.model, VariationalAutoencoder.model,
        AdversarialNetworks.model,
      ])
    + trained(on: "jargon", [RNN.model, LSTM.model, GRU.model, Decoder.model])
    + trained(
      on: "digits",
      [
        DenoisingDiffusion.model, ScoreModel.model, CouplingFlow.model, PixelModel.model,
        EnergyModel.model, RestrictedBoltzmann.model, GaussianMixture.model,
      ])

  /// The same with the data set that `Tools/data` makes for them.
  private static func trained(on dataSet: String, _ models: [ZooModel]) -> [ZooModel] {
    models.map { model in
      var model = model
      model.dataSet = dataSet
      return model
    }
  }

  /// A model whose batch is `n`.
  static func model(
    _ name: String, _ summary: String, batch: Int, _ sizes: [(String, Int)] = [],
    _ fill: @escaping @Sendable (inout Module) throws(DLCError) -> Void
  ) -> ZooModel {
    ZooModel(
      name: "models/\(name)", summary: summary,
      make: { () throws(DLCError) in
        var module = Module(name)
        for (dimension, size) in [("n", batch)] + sizes {
          module.dimension(dimension, default: size)
        }
        try fill(&module)
        return module
      })
  }

  /// Adam, or AdamW, at a rate that falls to 0 along half a cosine.
  static func rule(
    _ rate: Double, _ optimizer: Optimizer = .adam(), clip: Double? = nil, averaging: Double? = nil
  ) -> UpdateRule {
    var rule = UpdateRule(optimizer, learningRate: rate)
    rule.schedule = .cosine
    rule.clipNorm = clip
    rule.averaging = averaging
    return rule
  }

  static let fashion = Meaning.image(height: 28, width: 28)
  static let digits = Meaning.image(height: 8, width: 8)

  /// What the iterations of a scan draw from: every one from numbers of its own, and none from those of a
  /// stream without a step.
  static func iterations(_ g: FunctionBuilder, _ count: Size) -> Value {
    g.binary(.add, g.iota(.int32, [count], axis: 0), g.constant(1, .int32))
  }

  static func seed(_ g: FunctionBuilder) -> Value { g.input("seed", .int64) }

  /// Whole numbers from 0 to below `count`, int32.
  static func integers(
    _ random: RandomStream, below count: Int, _ g: FunctionBuilder, _ shape: [Size]
  )
    -> Value
  { g.convert(random.uniform(shape) * Double(count), .int32) }

  /// The 17 grey levels of digits, as numbers from 0 to 16.
  static func levels(_ g: FunctionBuilder, _ x: Value) -> Value {
    g.unary(.round_nearest_even, x * 16)
  }

  /// The mean of all elements.
  static func mean(_ g: FunctionBuilder, _ x: Value) -> Value {
    g.mean(x, axes: Array(x.shape.indices))
  }
}
