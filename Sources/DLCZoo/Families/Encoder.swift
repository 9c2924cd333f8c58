import DLCGraph
import DLCTensor
import DLCTraining

enum Encoder {
  static let model = Classifiers.model(
    "encoder", "transformer encoder: fashion images as 16 patches of 7x7, 2 blocks, d 64", epochs: 6
  ) { l, x in
    let (g, n) = (l.g, x.shape[0])
    let grid = g.transpose(g.reshape(x, [n, 4, 7, 4, 7]), [0, 1, 3, 2, 4])
    let patches = l.linear("enter", g.reshape(grid, [n, 16, 49]), 64)
    var h = patches + l.parameter("position", [16, 64], .normal(mean: 0, deviation: 0.02))
    for block in 0..<2 { h = l.transformerBlock("\(block)", h, heads: 4, causal: false) }
    return l.linear("head", g.mean(l.layerNorm("ln", h), axes: [1]), 10)
  }
}
