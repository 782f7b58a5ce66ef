# Logits of PEFT's add_weighted_adapter on tests/golden/peft: run there.
import json, torch
from transformers import LlamaForCausalLM
from peft import PeftModel
from peft.utils.save_and_load import load_peft_weights
ids = torch.tensor([[1, 5, 9, 13, 2, 7]])
out = {}
for how in ('linear', 'cat', 'svd', 'ties', 'magnitude_prune'):
    m = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained('base_llama'), 'lora', 'a')
    m.load_adapter('rslora', 'b')
    for n, p in m.named_parameters():          # rslora's file holds the same numbers as lora's
        if '.b.' in n: p.data = p.data.flip(0) * 0.7
    extra = {'density': 0.5} if how in ('ties', 'magnitude_prune') else {'svd_rank': 6} if how == 'svd' else {}
    m.add_weighted_adapter(['a', 'b'], [0.8, -0.5], 'c', combination_type=how, **extra)
    m.set_adapter('c')
    with torch.no_grad(): out[how] = m.eval()(ids).logits[0, -1].tolist()
json.dump({'ids': ids[0].tolist(), 'logits': out}, open('combine.json', 'w'))
