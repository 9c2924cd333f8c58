import DLCGraph
import DLCTensor
import DLCTraining

enum FeedForward {
  static let model = Classifiers.model(
    "ffn", "feed-forward: fashion images by 784-256-128-10 with ReLU", epochs: 12
  ) { l, x in
    let hidden = l.g.relu(l.linear("1", l.g.relu(l.linear("0", x, 256)), 128))
    return l.linear("2", hidden, 10)
  }
}
