import DLCTraining

enum LSTM {
  static let model = Characters.recurrent(
    "lstm", "LSTM: the next character by LSTM cells of 256", .lstm, rate: 6e-3)
}
