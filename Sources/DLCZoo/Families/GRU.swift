import DLCTraining

enum GRU {
  static let model = Characters.recurrent(
    "gru", "GRU: the next character by GRU cells of 256", .gru, rate: 6e-3)
}
