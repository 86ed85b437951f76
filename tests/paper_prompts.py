"""The prompts of the paper's official code, spelt out once more (spec §6.2), and what begins its models' sequences."""

from __future__ import annotations

_BAR, _SPACE = "\uff5c", "\u2581"
DEEPSEEK = f"<{_BAR}begin{_SPACE}of{_SPACE}sentence{_BAR}>"
_USER, _ASSISTANT = f"<{_BAR}User{_BAR}>", f"<{_BAR}Assistant{_BAR}>"

SHORT = "[MATH_TASK] Problem:\n{question}\n\nSolution:"
#: Of open-r1 eeca246 and lighteval 989f5f55.
MESSAGE = (
    "Solve the following math problem efficiently and clearly.  The last line of your "
    "response should be of the following format: 'Therefore, the final answer is: $\\boxed{ANSWER}$. I hope it is "
    "correct' (without quotes) where ANSWER is just the final number or expression that solves the problem. Think "
    "step by step before answering.\n\n{question}"
)
R1 = f"{DEEPSEEK}{_USER}{MESSAGE}{_ASSISTANT}<think>\n"
QWEN_GSM8K = (
    f"{DEEPSEEK}{_USER}Solve the following math problem efficiently and clearly. The last line of your "
    "response should be of the following format: '#### ANSWER' (without quotes) where ANSWER is just the final number "
    "or expression that solves the problem. Think step by step before answering."
    f"\n\n{{question}}{_ASSISTANT}"
)

#: dataset of config/paper.yaml -> its prompt; that of `knights` is ours
PROMPTS = {
    "gsm8k": f"<s>{SHORT}",
    "math_deepseek": f"{DEEPSEEK}{SHORT}",
    "math_qwen": SHORT,
    "math": R1,
    "math500": R1,
    "aime24": R1,
    "gsm8k_qwen": QWEN_GSM8K,
}
#: model -> the beginning of a sequence, for those that have one
BEGINS = {"rho": "<s>", "deepseek_math": DEEPSEEK, "r1_distill": DEEPSEEK}
