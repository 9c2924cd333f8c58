import DLCGraph
import DLCTensor
import DLCTraining

enum ConvolutionalNetwork {
  static let model = Classifiers.model(
    "cnn", "CNN: fashion images by convolutions 3x3 of 32 and 64 with max pooling, 128, 10",
    epochs: 5
  ) { l, x in
    let g = l.g
    func block(_ name: String, _ x: Value, _ channels: Size) -> Value {
      let y = g.relu(l.convolution(name, x, channels, kernel: 3, padding: 1))
      return g.maxPool(y, window: [2, 2])
    }
    let image = g.reshape(x, [x.shape[0], 1, 28, 28])
    let features = block("c2", block("c1", image, 32), 64)
    let flat = g.reshape(features, [x.shape[0], 64 * 49])
    return l.linear("f2", g.relu(l.linear("f1", flat, 128)), 10)
  }
}
