/// Random numbers.
enum RandomOperators {
  /// Whether a node, or one in its graphs, draws random numbers.
  static func isRandom(_ node: ONNXNode) -> Bool {
    names.contains(node.type) || node.graphs.contains { $0.nodes.contains(where: isRandom) }
  }

  private static let names: Set<String> = [
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
    "Multinomial", "Dropout",
  ]
}
