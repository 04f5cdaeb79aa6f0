// The version of this library, where the client's agent finds it without loading it (clientagent/condition.py).

namespace gpuferry {

extern const char version_mark[];
__attribute__((used)) const char version_mark[] = "gpuferry-shim-version=" GPUFERRY_VERSION ";";

}  // namespace gpuferry
