import DLCTraining

enum RNN {
  static let model = Characters.recurrent(
    "rnn", "RNN: the next character by tanh cells of 256", .rnn, rate: 4e-3)
}
